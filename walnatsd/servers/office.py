"""Where the use cases of administration are found."""

from walnatsd.api.administration import Administration
from walnatsd.api.dead_letters import DeadLetterOffice
from walnatsd.api.events import Events
from walnatsd.api.overview import Overview
from walnatsd.api.reload import Reload
from walnatsd.api.spool_office import SpoolOffice
from walnatsd.model.refusal import Reason, Refusal


class Office:
    """Where the use cases are found. The address opens before they do, so that it can tell what is waited for."""

    def __init__(self) -> None:
        self._open: tuple[Administration, Reload, DeadLetterOffice, SpoolOffice, Overview, Events] | None = None

    def open(
        self,
        administration: Administration,
        reload: Reload,
        dead_letters: DeadLetterOffice,
        spool: SpoolOffice,
        overview: Overview,
        events: Events,
    ) -> None:
        """Put the use cases to work."""
        self._open = (administration, reload, dead_letters, spool, overview, events)

    @property
    def administration(self) -> Administration:
        """Events and actors; raises Refusal before it is open."""
        return self._use_cases()[0]

    @property
    def reload(self) -> Reload:
        """The reload of the config file; raises Refusal before it is open."""
        return self._use_cases()[1]

    @property
    def dead_letters(self) -> DeadLetterOffice:
        """Dead letters; raises Refusal before it is open."""
        return self._use_cases()[2]

    @property
    def spool(self) -> SpoolOffice:
        """The spool; raises Refusal before it is open."""
        return self._use_cases()[3]

    @property
    def overview(self) -> Overview:
        """All events and actors at a glance; raises Refusal before it is open."""
        return self._use_cases()[4]

    @property
    def events(self) -> Events:
        """What can be done with events; raises Refusal before it is open."""
        return self._use_cases()[5]

    def _use_cases(self) -> tuple[Administration, Reload, DeadLetterOffice, SpoolOffice, Overview, Events]:
        if self._open is None:
            raise Refusal(Reason.NATS_UNAVAILABLE, "the daemon is starting", retry_after_s=1.0)
        return self._open
