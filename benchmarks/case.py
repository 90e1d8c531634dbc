"""What is measured, and what it must reach."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.stage import Stage

Figures = dict[str, float]
"""What one round of a case gave, by name."""


@dataclass(frozen=True)
class Bar:
    """What a figure, or its ratio to another one of the same round, must reach."""

    of: str
    limit: float
    to: str = ""
    """The figure it is compared with; empty where the figure itself counts."""
    at_most: bool = False

    def value(self, rounds: list[Figures]) -> float:
        """The median over the rounds."""
        return statistics.median(each[self.of] / each[self.to] if self.to else each[self.of] for each in rounds)

    def is_met(self, rounds: list[Figures]) -> bool:
        value = self.value(rounds)
        return value <= self.limit if self.at_most else value >= self.limit

    @property
    def text(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"{self.of} {sign} {self.limit:g}" + (f" x {self.to}" if self.to else "")


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    rounds: int
    seconds: float
    """Of each load that is measured by time."""
    messages: int
    """Of each backlog that is measured until it is worked off."""
    drained: int
    """Messages stored for the case of memory."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    measure: Callable[[Stage, Scale], Awaitable[Figures]]
    """Measures all sides once, one after the other."""
    bars: tuple[Bar, ...]
    unit: str = "per s"
    once: bool = False
    """Measured in one round only, for it takes long or hardly varies."""
    needs: str = ""
    """A program that must be installed for it."""
