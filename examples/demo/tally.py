"""What became of the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts what was emitted and who handled it."""

    expected: int
    """The numbers are 1 to this."""
    receivers: Sequence[str]
    """Names of the receivers."""
    emitted: set[int] = field(default_factory=set)
    """Numbers that NATS has confirmed."""
    handled: list[tuple[str, int]] = field(default_factory=list)
    """Receiver and number, in the order in which they were handled."""

    def confirm(self, line: str) -> None:
        """Take a line of the publisher: a number that is stored."""
        if line.isdecimal():
            self.emitted.add(int(line))

    def count(self, receiver: str, line: str) -> None:
        """Take a line of a receiver: a number that it has handled."""
        if line.isdecimal():
            self.handled.append((receiver, int(line)))

    def handled_by(self, receiver: str) -> int:
        """How many numbers a receiver has handled."""
        return sum(name == receiver for name, _ in self.handled)

    @property
    def distinct(self) -> set[int]:
        """Numbers that were handled at least once."""
        return {number for _, number in self.handled}

    @property
    def repeated(self) -> int:
        """How often a number was handled again."""
        return len(self.handled) - len(self.distinct)

    @property
    def lost(self) -> list[int]:
        """Numbers that nobody has handled."""
        return sorted(set(range(1, self.expected + 1)) - self.distinct)

    @property
    def unconfirmed(self) -> list[int]:
        """Numbers of which the publisher never heard that they are stored."""
        return sorted(set(range(1, self.expected + 1)) - self.emitted)

    @property
    def exit_code(self) -> int:
        """0 if every number was confirmed and handled."""
        return 1 if self.lost or self.unconfirmed else 0

    def who(self) -> list[str | None]:
        """For each number: the receiver that handled it, "again" where it was handled more than once, None if lost."""
        hands: dict[int, str] = {}
        for receiver, number in self.handled:
            hands[number] = "again" if number in hands else receiver
        return [hands.get(number) for number in range(1, self.expected + 1)]
