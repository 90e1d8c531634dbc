"""A message on its way out: what is left of an emit once everything has been checked."""

from collections.abc import Mapping
from dataclasses import dataclass

from walnatsd.model import headers


@dataclass(slots=True)  # as cheap as can be, and so is what else is made for each emit
class Outgoing:
    """A message that may be stored: checked, encoded, with all its headers. It needs neither caller nor declaration.

    Not to be changed.
    """

    event: str
    """Name of the event."""
    payload: bytes
    """The body as it is stored: the event's codecs have been applied."""
    header: Mapping[str, str]
    """As they are stored; the uid is among them."""
    has_given_uid: bool
    """The caller chose the uid, so an earlier emit may have had it too."""
    due_at: float | None = None
    """Until when nobody may handle it, in seconds since the epoch; None where it is for now."""

    @property
    def uid(self) -> str:
        """The deduplication id."""
        return self.header[headers.MESSAGE_ID]
