"""What administrators can do with the spool: look at it, and decide about what JetStream refuses for good."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from walnatsd.api.pages import read_numbers, write_cursor
from walnatsd.model.refusal import Reason, Refusal
from walnatsd.spool.errors import ClosedError, SpoolError
from walnatsd.spool.spool import Spool
from walnatsd.spool.store import SetAside

_log = structlog.get_logger("walnatsd.spool")


class SpoolOffice:
    """The use cases around the spool, where there is one."""

    def __init__(self, spool: Spool | None) -> None:
        self.spool = spool
        """None where the config has none."""

    async def page(self, *, limit: int, cursor: str | None) -> tuple[list[SetAside], str | None]:
        """List what was set aside, oldest first; with the next cursor.

        Raises:
            Refusal: INVALID_REQUEST: the cursor is none of ours; SPOOL: it can't be read.
        """
        [place] = read_numbers(cursor, 1) if cursor is not None else [0]
        if self.spool is None:
            return [], None
        with _explained():
            found = await self.spool.set_aside_page(place, limit + 1)
        page = found[:limit]
        return page, write_cursor([str(page[-1].kept.id)]) if len(found) > limit else None

    async def retry(self, id_: int) -> None:
        """Queue a message that was set aside once more, behind what waits of its event.

        Raises:
            Refusal: UNKNOWN_MESSAGE; SPOOL: it can't be written.
        """
        with _explained():
            done = self.spool is not None and await self.spool.put_back(id_)
        _see_that(done, id_)
        _log.info("a message of the spool that was set aside is tried once more", id=id_)

    async def discard(self, id_: int) -> None:
        """Erase a message that was set aside.

        Raises:
            Refusal: UNKNOWN_MESSAGE; SPOOL: it can't be written.
        """
        with _explained():
            done = self.spool is not None and await self.spool.discard(id_)
        _see_that(done, id_)
        _log.warning("a message of the spool that was set aside is erased", id=id_)


def _see_that(done: bool, id_: int) -> None:
    if not done:
        raise Refusal(Reason.UNKNOWN_MESSAGE, f"no message {id_} is set aside in the spool")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ClosedError as error:
        raise Refusal(Reason.STOPPING, str(error), retry_after_s=1.0) from None
    except SpoolError as error:
        raise Refusal(Reason.SPOOL, str(error), retry_after_s=1.0) from None
