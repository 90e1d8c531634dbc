#!/bin/sh
# Lints the contract, looks for breaking changes against the commit before (where there is one: a shallow clone may have
# none), and sees that the generated stubs are up to date.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

image() { # SOURCE OUTPUT
    python -m grpc_tools.protoc -I"$1" -I"$site" --include_imports --include_source_info -o "$2" "$1"/walnatsd/v1/*.proto
}

image "$here" "$work/now.binpb"
# --path leaves out what is imported: google/rpc comes from a package, for buf's own registry is not needed
buf lint "$work/now.binpb" --config "$here/buf.yaml" \
    --path walnatsd/v1/message.proto --path walnatsd/v1/events.proto --path walnatsd/v1/actors.proto

compared="no commit before this one to compare with"
before=$(git -C "$root" rev-parse --verify --quiet HEAD^ 2>/dev/null || true)
if [ -n "$before" ] && git -C "$root" cat-file -e "$before:proto/walnatsd/v1/events.proto" 2>/dev/null; then
    mkdir "$work/before"
    git -C "$root" archive "$before" proto | tar -x -C "$work/before"
    image "$work/before/proto" "$work/before.binpb"
    buf breaking "$work/now.binpb" --against "$work/before.binpb" --config "$here/buf.yaml"
    compared="nothing broken"
fi

mkdir "$work/generated"
"$here/generate.sh" "$work/generated"
for folder in walnatsd/v1 clients/python/src/walnatsd_client/_proto; do
    diff -r --exclude=__pycache__ "$work/generated/$folder" "$root/$folder" || {
        echo "generated code in $folder is not up to date; run: make proto" >&2
        exit 1
    }
done
echo "contract: linted, $compared, generated code up to date"
