"""What came out of a scenario: for pytest, for people, for programs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from faults.ledger import Attempt, Findings, Repeat
from faults.standstill import StandStill, longest

NAMED = 10
"""How many of a kind are named; the rest is counted."""
QUOTED = 5
"""How many attempts at a message are quoted, the last ones."""


@dataclass(frozen=True)
class Bound:
    """Duplicates that a fault may cause, and why."""

    duplicates: int
    why: str


@dataclass(frozen=True)
class Verdict:
    """What came out of a scenario. `problems` is empty where all that is promised held."""

    seed: int
    seconds: float
    findings: Findings
    bounds: tuple[Bound, ...]
    timeline: tuple[tuple[float, str], ...]
    """What was broken when, by the wall clock."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What else was measured, by name with its unit."""
    complaints: tuple[str, ...] = ()
    """What the scenario itself found wrong."""
    stand_stills: Mapping[str, Sequence[StandStill]] = field(default_factory=dict)
    """When the observing process stood still, so that it marked calls too late, and when sidecars did; by who."""

    @property
    def faults(self) -> dict[str, int]:
        """How often what was broken."""
        return dict(Counter(what for _, what in self.timeline))

    @property
    def bound(self) -> int:
        return sum(bound.duplicates for bound in self.bounds)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems())

    @property
    def is_good(self) -> bool:
        return not self.problems

    def _problems(self) -> Iterator[str]:
        found = self.findings
        if not found.acknowledged or not self.timeline:
            yield "nothing was acknowledged or nothing was broken, so nothing is proven"
        if found.lost:
            yield f"{len(found.lost)} lost: {_named(f'{uid} for {actor}' for uid, actor in found.lost)}"
        if found.after_ack:
            names = _named(map(self._describe, found.after_ack))
            yield f"{len(found.after_ack)} seen after the ack was confirmed: {names}"
        if found.wrong_answers:
            yield f"{len(found.wrong_answers)} wrong answers: {_named(found.wrong_answers)}"
        if (duplicates := found.duplicates - found.forgotten_acks) > self.bound:
            yield f"{duplicates} duplicates, where {self.bound} may be: {'; '.join(self.reasons)}"
        yield from self.complaints

    def _describe(self, repeat: Repeat) -> str:
        """Say what repeat it was, what was broken next after its ack was confirmed, and what may explain it.

        A call that was made in time and marked late has an attempt that took as long, and an observer that stood still. One
        that was made late, of what was handed over in time, has a sidecar that stood still.
        """
        cause = next(
            (
                f"{at - repeat.confirmed_at:.2f} s before {what}"
                for at, what in self.timeline
                if at >= repeat.confirmed_at
            ),
            "after the last fault",
        )
        since = repeat.confirmed_at
        stood_still = [
            f"{who} stood still for up to {found.for_s:.2f} s"
            for who, stand_stills in self.stand_stills.items()
            if (found := longest(stand_stills, since=since, until=since + repeat.late_s))
        ]
        attempts = [_quoted(each, since) for each in repeat.attempts[-QUOTED:]]
        return (
            f"{repeat.uid} for {repeat.actor} {repeat.late_s:.2f} s later (confirmed {cause}; "
            f"{', '.join(stood_still) or 'nobody stood still'} meanwhile; "
            f"{', '.join(attempts) or 'no sidecar tells of an attempt'})"
        )

    @property
    def stood_still_s(self) -> dict[str, float]:
        """The longest time for which each process stood still; 0 where it was never noticed."""
        return {who: max((each.for_s for each in them), default=0.0) for who, them in self.stand_stills.items()}

    @property
    def reasons(self) -> list[str]:
        """Why there may be duplicates, those of one kind together."""
        counted = Counter(self.bounds)
        return [f"{count} x {bound.duplicates} {bound.why}" for bound, count in counted.items()]

    @property
    def text(self) -> str:
        """The verdict in words."""
        found = self.findings
        counts = (
            f"{found.emitted} emitted, {found.acknowledged} acknowledged, {found.refusals} tries refused, "
            f"{found.in_doubt} in doubt; {found.sightings} calls of actors, {found.duplicates} duplicates "
            f"(at most {self.bound}), {found.forgotten_acks} acks forgotten by NATS"
        )
        lines = [counts, "broken: " + ", ".join(f"{count} x {what}" for what, count in self.faults.items())]
        if found.refused_because:
            lines.append("refused: " + ", ".join(f"{count} x {why}" for why, count in found.refused_because.items()))
        if self.figures:
            lines.append(", ".join(f"{name} {figure:g}" for name, figure in self.figures.items()))
        if self.stand_stills:
            longest_s = ", ".join(f"{who} {still_s:.2f} s" for who, still_s in self.stood_still_s.items())
            lines.append(f"stood still at most: {longest_s}")
        lines += [f"WRONG: {problem}" for problem in self.problems] or ["all that is promised held"]
        return "\n".join([*lines, f"seed {self.seed}, {self.seconds:.0f} s"])

    def as_json(self) -> dict[str, Any]:
        """Everything, with what is lost or repeated by name."""
        return {
            "good": self.is_good,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "faults": self.faults,
            "findings": asdict(self.findings),
            "duplicates_bound": self.bound,
            "duplicates_reasons": self.reasons,
            "figures": {name: round(figure, 2) for name, figure in self.figures.items()},
            "stood_still_s": {who: round(still_s, 2) for who, still_s in self.stood_still_s.items()},
            "problems": list(self.problems),
        }


def _quoted(attempt: Attempt, since: float) -> str:
    return (
        f"{attempt.sidecar}'s attempt {attempt.number} took {attempt.took_s:.2f} s and was settled "
        f"{attempt.settled_at - since:+.2f} s from then: {attempt.decision}"
    )


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (f" and {len(listed) - NAMED} more" if len(listed) > NAMED else "")
