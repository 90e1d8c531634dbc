#!/bin/sh
# Writes the Python stubs of the contract, for the daemon and for the client, below the given folder.
# Usage: proto/generate.sh ROOT    (with the development environment's bin directory first on PATH)
set -eu
root=$1
here=$(cd "$(dirname "$0")" && pwd)
site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

python -m grpc_tools.protoc -I"$here" -I"$site" \
    --python_out="$out" --mypy_out=quiet:"$out" --grpc_python_out="$out" --mypy_grpc_out=quiet:"$out" \
    "$here"/walnatsd/v1/*.proto

daemon=$root/walnatsd/v1
client=$root/clients/python/src/walnatsd_client/_proto
for target in "$daemon" "$client"; do
    mkdir -p "$target"
    cp "$out"/walnatsd/v1/* "$target"
    printf '"""Stubs of the contract, generated from proto/ by `make proto`."""\n' > "$target/__init__.py"
done
# message.proto has no service, so its gRPC stub is empty.
rm -f "$daemon"/message_pb2_grpc.* "$client"/message_pb2_grpc.*
# The client ships its own copy and never imports the daemon.
sed -i.bak -e 's/^from walnatsd\.v1 import/from walnatsd_client._proto import/' "$client"/*.py "$client"/*.pyi
rm -f "$client"/*.bak
