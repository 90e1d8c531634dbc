"""Somebody who goes through a page: writes its files, types its commands, and compares what it shows with what comes."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType

from support.nats_server import free_port
from support.terminal import Terminal, replaced
from support.waiting import until

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LOOKS = re.compile(r"walnatsd (?:status|dead-letters (?:list|show))\b|curl http")
"""Commands that only look: what they show may take a moment to be so."""
_DIFFERS = {
    r"\b[0-9a-f]{32}\b": "<uid>",
    r"\d{4}-\d\d-\d\dT[\d:.]+Z": "<time>",
    r"\d+(?:\.\d+)? ?(?:ms|s|m)\b": "<duration>",
    r" +": " ",
}
"""What is another one each time, and what stands for it."""
_REST = "…"


def same(shown: str, came: str, alike: Mapping[str, str] = MappingProxyType({})) -> bool:
    """Whether an output is as it is shown; an ellipsis stands for any text, and for any lines where it is one.

    `alike` is what may stand instead of something else, as patterns.
    """
    for differs, instead in {**alike, **_DIFFERS}.items():
        shown, came = re.sub(differs, instead, shown), re.sub(differs, instead, came)
    lines = [re.escape(line.rstrip()).replace(re.escape(_REST), ".*") for line in shown.strip().splitlines()]
    return re.fullmatch("\n".join(lines), "\n".join(map(str.rstrip, came.strip().splitlines())), re.DOTALL) is not None


class Reader:
    """Takes the blocks of a page in their order, with addresses of its own in place of the usual ones."""

    def __init__(
        self,
        page: Path,
        folder: Path,
        addresses: Mapping[str, str],
        environ: Mapping[str, str],
        alike: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Open the page.

        Args:
            page: The file.
            folder: Where everything is typed.
            addresses: What stands in place of an address of the page, by that.
            environ: What each command finds in its environment, besides.
            alike: As `same` has it.
        """
        self._folder = folder
        self._addresses = addresses
        self._environ = environ
        self._alike = alike
        self._blocks = BLOCK.findall(page.read_text())

    @property
    def left(self) -> int:
        """How many blocks nobody has looked at."""
        return len(self._blocks)

    def next(self, kind: str) -> str:
        """The next block, which must be of this kind."""
        found, text = self._blocks.pop(0)
        assert found == kind, f"expected a block of {kind}, not of {found}:\n{text}"
        for usual, own in self._addresses.items():
            text = text.replace(usual, own)
        return str(text)

    def write(self, kind: str, **replacements: object) -> Path:
        """Write the next block into the file that its first line names."""
        text = replaced(self.next(kind), **replacements)
        file = self._folder / text.splitlines()[0].removeprefix("# ")
        file.write_text(text)
        return file

    @contextlib.asynccontextmanager
    async def running(self, commands: str) -> AsyncIterator[Terminal]:
        """What goes on in a terminal of its own, until it is stopped."""
        terminal = Terminal()
        async with terminal.running(self._folder, "bash", "-ec", commands, **self._environ):
            yield terminal

    async def do(self, commands: str) -> None:
        """What has an end, and says nothing of interest."""
        await self._type(commands)

    async def type_next(self) -> None:
        """Type the commands of the next block, and compare what they say."""
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", self.next("console"), re.MULTILINE):
            await self._compare(command, shown)

    async def _compare(self, command: str, shown: str) -> None:
        said = ""

        async def is_same() -> bool:
            nonlocal said
            said = await self._type(command)
            return same(shown, said, self._alike)

        if _LOOKS.match(command):
            with contextlib.suppress(AssertionError):  # there is more to say
                await until(is_same, timeout_s=60)
        else:
            await is_same()
        assert same(shown, said, self._alike), f"{command}\nis shown with\n{shown}\nand says\n{said}"

    async def _type(self, command: str) -> str:
        command = command.replace("curl ", "curl -sS ")
        if re.match(r"walnatsd emit\b", command):
            command = f"{command} --http {self._addresses['127.0.0.1:7521']}"
        elif command.startswith("walnatsd ") and command != "walnatsd check":
            command = f"{command} --admin {self._addresses['127.0.0.1:7522']}"
        return await Terminal().run(self._folder, "bash", "-c", command, **self._environ)

    async def sees_next(self, terminal: Terminal, start: str) -> None:
        """Wait until the lines that begin so are those of the next block, and no others."""
        shown = self.next("text").splitlines()
        await until(
            lambda: [line for line in terminal.lines if line.startswith(start)] == shown,
            timeout_s=60, what=f"{shown}; {terminal.lines}",
        )  # fmt: skip


def own_addresses(*, monitoring: bool = False) -> tuple[dict[str, str], dict[str, str]]:
    """Free addresses by the sidecar's usual ones, and the environment that has it listen there."""
    names = ["GRPC", "HTTP", "ADMIN", *(["MONITORING"] if monitoring else [])]
    own = {f"127.0.0.1:{7520 + number}": f"127.0.0.1:{free_port()}" for number in range(len(names))}
    return own, {f"WALNATSD_{name}__LISTEN": address for name, address in zip(names, own.values(), strict=True)}
