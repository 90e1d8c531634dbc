"""What the README shows works as it stands there; only addresses are replaced, for the usual ones may be in use."""

import base64
import re
import shutil
import sys
from pathlib import Path

import pytest

from support.nats_server import free_port
from support.terminal import Terminal, replaced
from support.waiting import until

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
ANYWHERE = {f"WALNATSD_{server}__LISTEN": "127.0.0.1:0" for server in ("GRPC", "HTTP", "ADMIN")}
SECRET = "whsec_" + base64.b64encode(bytes(24)).decode()


def block(kind: str, start: str) -> str:
    """The one code block of this kind that begins so."""
    found = [text for each, text in BLOCKS if each == kind and text.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks of {kind} begin with {start!r}"
    return found[0]


@pytest.mark.needs_program("curl")
async def test_the_example_by_hand_and_all_ways_to_emit_work_as_they_stand_there(tmp_path) -> None:
    run, receiver = Terminal(), Terminal()
    webhook, nats = free_port(), free_port()
    first = replaced(block("sh", "cat > walnatsd.yaml"), **{"8000": webhook, "true": f"{{port: {nats}}}"})
    second = replaced(block("sh", "cat > receiver.py"), **{"8000": webhook})
    async with (
        run.running(tmp_path, "bash", "-c", first, **ANYWHERE),
        receiver.running(tmp_path, "bash", "-c", second),
    ):
        await until(lambda: run.said("ready"), what=f"readiness; {run.lines}")
        at = run.said("listening")
        assert at is not None

        third = replaced(block("sh", "curl"), **{"127.0.0.1:7521": at["http"]})
        assert '"sequence":1' in await Terminal().run(tmp_path, "bash", "-c", third.replace("curl ", "curl -s "))
        await until(lambda: 'parcel-sent {"parcel_id": 7}' in receiver.lines, what=f"the message; {receiver.lines}")

        by_cli, by_curl, by_grpcurl = block("sh", "walnatsd emit").split("\n\n")
        said = await Terminal().run(tmp_path, "bash", "-c", f"{by_cli} --http {at['http']}")
        assert "stored as parcel-sent/2  uid parcel-7" in said
        by_curl = replaced(by_curl, **{"127.0.0.1:7521": at["http"], "curl ": "curl -s "})
        assert '"sequence":2,"duplicate":true' in await Terminal().run(tmp_path, "bash", "-c", by_curl)
        if shutil.which("grpcurl"):
            by_grpcurl = replaced(by_grpcurl, **{"127.0.0.1:7520": at["grpc"]})
            assert '"duplicate": true' in await Terminal().run(tmp_path, "bash", "-c", by_grpcurl)
        by_client = replaced(block("python", "import"), **{"connect()": f"connect({at['grpc']!r})"})
        assert "sequence=2, duplicate=True" in await Terminal().run(tmp_path, sys.executable, "-c", by_client)
        await until(lambda: sum(line.startswith("parcel-sent") for line in receiver.lines) == 2)


async def test_the_config_by_example_passes_the_check(tmp_path) -> None:
    (tmp_path / "walnatsd.yaml").write_text(block("yaml", "service:"))
    [command] = re.findall(r"`(walnatsd check [^`]*)`", README)
    await Terminal().run(tmp_path, "bash", "-c", command, WEBHOOK_SECRET=SECRET)


def test_the_commands_for_make_are_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", block("sh", "make demo"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
