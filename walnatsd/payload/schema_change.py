"""A difference between two versions of a schema."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """What is different, and whether payloads that fitted the old schema fit the new one."""

    place: str
    """Where in the payload; `*` stands for any index or name. Empty: the payload itself."""
    message: str
    """What is different now."""
    breaks: bool
    """Whether a payload that fitted may not fit any more."""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


def breaking(place: str, message: str) -> SchemaChange:
    """Name a change after which payloads that fitted may not fit any more."""
    return SchemaChange(place, message, breaks=True)


def compatible(place: str, message: str) -> SchemaChange:
    """Name a change that turns away no payload that fitted."""
    return SchemaChange(place, message, breaks=False)
