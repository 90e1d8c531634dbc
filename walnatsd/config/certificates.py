"""Certificates that are read again when their files change, so that renewing them needs no restart."""

import ssl
import threading
import time
from collections.abc import Callable

import structlog

from walnatsd.config.tls import Tls, TlsFiles, load_tls, why_not_valid

LOOK_INTERVAL_S = 2.0
"""How often the files are looked at, at most: when something asks for them."""

_log = structlog.get_logger("walnatsd.tls")


class Certificates:
    """The certificates of one place, the latest that can be used. May be asked by any thread.

    Nothing runs for it: whoever opens a connection asks, and the files are compared with what is in use then. Connections
    that are open stay as they are. Files that can't be used (half of a new pair, a certificate of a server that has
    expired) change nothing but a warning and `problem`. A client's certificate that has expired is used all the same: those
    to trust may be new, and who is called decides.
    """

    def __init__(
        self,
        part: str,
        files: TlsFiles,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Read the files.

        Args:
            part: Whose they are, for the log.
            files: The files.
            monotonic: A clock for intervals, in seconds.
            now: The time in seconds since the epoch.

        Raises:
            ValueError: They can't be used, in words.
        """
        self._part = part
        self.files = files
        self._monotonic = monotonic
        self._now = now
        self._lock = threading.Lock()
        self._latest = self._load()
        self._looked_at = monotonic()
        self._problem = ""

    def current(self) -> Tls:
        """Give the latest that can be used."""
        with self._lock:
            if self._monotonic() - self._looked_at >= LOOK_INTERVAL_S:
                self._look()
                self._looked_at = self._monotonic()
            return self._latest

    @property
    def context(self) -> ssl.SSLContext:
        """A context of the latest."""
        return self.current().context

    def valid_until_s(self) -> float | None:
        """Until when the latest is valid, in seconds since the epoch; None where there is only whom to trust."""
        return self.current().not_after

    @property
    def problem(self) -> str:
        """Why the files as they are now can't be used; empty where they are in use."""
        self.current()
        return self._problem

    def _look(self) -> None:
        try:
            contents = self.files.read()
            if contents != self._latest.contents:
                self._latest = self._load()
                self._tell_new()
            self._problem = ""
        except ValueError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                _log.warning(
                    "new certificates can't be used; the former ones stay in use", part=self._part, why=self._problem
                )

    def _tell_new(self) -> None:
        _log.info("new certificates are in use", part=self._part, valid_until=self._latest.valid_until)
        if why := why_not_valid(self._latest, self.files, self._now()):
            _log.warning("the new certificate will be refused", part=self._part, why=why)

    def _load(self) -> Tls:
        tls = load_tls(self.files)
        if self.files.for_server and (why := why_not_valid(tls, self.files, self._now())):
            raise ValueError(why)
        return tls
