"""docs/getting-started.md, block by block and in its order: what it says to type is typed, what it shows must come."""

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.nats_server import free_port
from support.terminal import Terminal, replaced
from support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "getting-started.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOLD_AGAIN = re.compile(r"walnatsd (?:status|dead-letters (?:list|show))\b")
"""Commands that only look: what they show may take a moment to be so."""
DIFFERS = {
    r"\b[0-9a-f]{32}\b": "<uid>",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "<time>",
    r"\d+(?:\.\d+)? ?(?:ms|s|m)\b": "<duration>",
    r"\bbreaker-open\b": "open",  # as the page says, after some seconds
    r" +": " ",
}
"""What is another one each time, and what stands for it."""
REST = "…"


def same(shown: str, came: str) -> bool:
    """Whether an output is as it is shown; a line with an ellipsis stands for any lines."""
    for differs, instead in DIFFERS.items():
        shown, came = re.sub(differs, instead, shown), re.sub(differs, instead, came)
    lines = [".*" if line == REST else re.escape(line.rstrip()) for line in shown.strip().splitlines()]
    return re.fullmatch("\n".join(lines), "\n".join(map(str.rstrip, came.strip().splitlines())), re.DOTALL) is not None


class Reader:
    """Somebody who goes through the page, on addresses of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks = BLOCK.findall(PAGE.read_text())
        self.webhook, self.grpc, self.http, self.admin = (f"127.0.0.1:{free_port()}" for _ in range(4))

    @property
    def left(self) -> int:
        return len(self._blocks)

    def next(self, kind: str) -> str:
        """The next block, which must be of this kind."""
        found, text = self._blocks.pop(0)
        assert found == kind, f"expected a block of {kind}, not of {found}:\n{text}"
        return str(text).replace("127.0.0.1:7521", self.http)

    def write(self, kind: str, **replacements: object) -> Path:
        """Write the next block into the file that it names."""
        text = replaced(self.next(kind), **replacements)
        file = self._folder / text.splitlines()[0].removeprefix("# ")
        file.write_text(text)
        return file

    @contextlib.asynccontextmanager
    async def running(self, command: str) -> AsyncIterator[Terminal]:
        """What goes on in a terminal of its own, until it is stopped."""
        terminal = Terminal()
        environ = {
            f"WALNATSD_{name}__LISTEN": getattr(self, name.lower()) for name in ("GRPC", "HTTP", "ADMIN")
        }  # fmt: skip
        async with terminal.running(self._folder, "bash", "-c", f"exec {command}", **environ):
            yield terminal

    async def type_next(self) -> None:
        """Type the commands of the next block, and compare what they say."""
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.next("console"), re.MULTILINE):
            await self._compare(command, shown)

    async def _compare(self, command: str, shown: str) -> None:
        said = ""

        async def is_same() -> bool:
            nonlocal said
            said = await self._type(command)
            return same(shown, said)

        if TOLD_AGAIN.match(command):
            with contextlib.suppress(AssertionError):  # there is more to say
                await until(is_same, timeout_s=30)
        else:
            await is_same()
        assert same(shown, said), f"{command}\nis shown with\n{shown}\nand says\n{said}"

    async def _type(self, command: str) -> str:
        option = f"--http {self.http}" if command.startswith("walnatsd emit") else f"--admin {self.admin}"
        command = command.replace("curl ", "curl -sS ")
        if command.startswith("walnatsd ") and command != "walnatsd check":
            command = f"{command} {option}"
        return await Terminal().run(self._folder, "bash", "-c", command)

    async def sees_next(self, terminal: Terminal) -> None:
        """Wait for what the next block shows, and for nothing else of its kind."""
        shown = self.next("text").splitlines()
        await until(
            lambda: [line for line in terminal.lines if line.startswith("parcel-sent ")] == shown,
            timeout_s=60, what=f"{shown}; {terminal.lines}",
        )  # fmt: skip


@pytest.mark.needs_program("curl")
async def test_a_new_user_sees_what_the_page_shows(tmp_path) -> None:
    reader = Reader(tmp_path)
    reader.write("yaml", **{"true": f"{{port: {free_port()}}}", "127.0.0.1:8000": reader.webhook})
    await reader.type_next()  # check
    async with reader.running(reader.next("sh").strip()) as sidecar:
        receiver = reader.write("python", **{"8000": reader.webhook.partition(":")[2]})
        start = reader.next("sh").strip()
        await until(lambda: sidecar.said("ready"), timeout_s=30, what=f"readiness; {sidecar.lines}")
        async with reader.running(start) as printed:
            await reader.type_next()  # emit
            await reader.sees_next(printed)
            before = list(printed.lines)
            await reader.type_next()  # the same once more
        assert printed.lines == before

        await reader.type_next()  # nobody is there
        async with reader.running(start) as printed:
            await reader.sees_next(printed)

        answers_204 = receiver.read_text()
        receiver.write_text(replaced(answers_204, **{"204": "422"}))
        async with reader.running(start):
            await reader.type_next()  # rejected
            await reader.type_next()  # what is kept of it
        receiver.write_text(answers_204)
        async with reader.running(start) as printed:
            await reader.type_next()  # replayed
            await reader.sees_next(printed)
    assert reader.left == 0


def test_an_output_that_differs_is_seen() -> None:
    assert same("stored as a/1  uid 51bbf40d00294bd8a57ac7830c733402\n", "stored as a/1 uid " + "0" * 32)
    assert same("a\n…\nb\n", "a\nx\ny\nb")
    assert not same("stored as a/1\n", "stored as a/2\n")
    assert not same("a\n", "a\nb\n")
