"""What the demo shows: coloured on a terminal, plain elsewhere."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from tally import Tally

BAR_WIDTH = 24
PER_LINE = 60
BOLD, DIM, GREEN, RED, YELLOW = "1", "2", "32", "31", "33"
LANES = ("36", "35")


class Screen:
    """Prints lines and never moves the cursor, so that the output can be piped and kept."""

    def __init__(
        self, receivers: Sequence[str], out: TextIO = sys.stdout, environ: Mapping[str, str] = os.environ
    ) -> None:
        self._out = out
        self._coloured = out.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        self._encoding = out.encoding or "ascii"
        is_utf8 = self._encoding.lower().replace("-", "") == "utf8"
        self._bar, self._tick, self._cross = ("▇", "✓", "✗") if is_utf8 else ("#", "+", "x")
        self._colours = dict(zip(receivers, LANES, strict=True))
        self._started = time.monotonic()

    def title(self, text: str) -> None:
        """Say what this is."""
        self._print()
        self._print(self._paint(BOLD, text))
        self._print()

    def good(self, text: str) -> None:
        """Say what went well."""
        self._print(f"{self._paint(GREEN, self._tick)} {text}")

    def bad(self, text: str) -> None:
        """Say what went wrong, or is made to."""
        self._print(self._paint(f"{BOLD};{RED}", f"{self._cross} {text}"))

    def start_clock(self) -> None:
        """Start the time that the rows show."""
        lanes = "    ".join(
            self._paint(colour, f"{f'handled by {name}':{BAR_WIDTH + 4}}") for name, colour in self._colours.items()
        )
        self._print()
        self._print(f"        emitted    {lanes}")
        self._started = time.monotonic()

    def row(self, emitted: int, handled: Mapping[str, int | None]) -> None:
        """Show what happened since the last row: one block per number, None for a receiver that is dead."""
        clock = self._paint(DIM, f"{time.monotonic() - self._started:4.1f} s")
        lanes = "    ".join(self._lane(self._colours[name], count) for name, count in handled.items())
        self._print(f"{clock}  {emitted:7}    {lanes}")

    def _lane(self, colour: str, count: int | None) -> str:
        if count is None:
            return self._paint(DIM, f"{'dead':{BAR_WIDTH + 4}}")
        return f"{self._paint(colour, f'{self._bar * min(count, BAR_WIDTH):{BAR_WIDTH}}')}{count:4}"

    def tally(self, tally: Tally) -> None:
        """Show who handled which number, and how it ends."""
        self._print()
        legend = ", ".join(f"{self._paint(colour, name[0])} {name}" for name, colour in self._colours.items())
        self._print(f"Who handled which number: {legend}, {self._paint(YELLOW, '2')} handled twice")
        self._print()
        who = tally.who()
        for start in range(0, len(who), PER_LINE):
            letters = "".join(map(self._letter, who[start : start + PER_LINE]))
            self._print(f"{self._paint(DIM, f'{start + 1:4}')}  {letters}")
        self._print()
        hands = ", ".join(f"{tally.handled_by(name)} by {name}" for name in self._colours)
        self._print(f"emitted   {len(tally.emitted):4}   NATS has confirmed each")
        self._print(f"handled   {len(tally.distinct):4}   {hands}")
        self._print(f"again     {tally.repeated:4}   at least once: a kill between the work and its ack repeats it")
        self._print(f"lost      {len(tally.lost):4}")
        self._print()
        if tally.lost:
            self.bad(f"Lost: {_some(tally.lost)}")
        elif tally.unconfirmed:
            self.bad(f"Handled, but the publisher never heard that it is stored: {_some(tally.unconfirmed)}")
        else:
            self.good(self._paint(BOLD, "Every number was handled, none was lost."))
            self._print()
            self._print(self._paint(DIM, "The code and the sidecars' config: examples/demo. Next: README.md"))
        self._print()

    def _letter(self, name: str | None) -> str:
        if name is None:
            return self._paint(f"{BOLD};{RED}", "?")
        if name in self._colours:
            return self._paint(self._colours[name], name[0])
        return self._paint(YELLOW, "2")

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured else text

    def _print(self, line: str = "") -> None:
        shown = line.encode(self._encoding, "replace").decode(self._encoding)
        print(f"  {shown}".rstrip(), file=self._out, flush=True)


def _some(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
