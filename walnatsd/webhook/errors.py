"""Why there is no answer.

    HttpError                  there is none; its text says why, to people
    ├── NotConnectedError      nobody could be reached: name, address, connection, TLS, or it took too long
    ├── BrokenError            the connection broke before an answer came
    └── NotHttpError           what came is no answer of HTTP/1

A late answer is a `TimeoutError`, an address that no request can be sent to a `ValueError`.
"""


class HttpError(Exception):
    """There is no answer."""


class NotConnectedError(HttpError):
    """There is no connection, so that nothing was sent."""


class BrokenError(HttpError):
    """The connection ended before the head of an answer came. What was sent may have been read."""


class NotHttpError(HttpError):
    """What came is no answer of HTTP/1, or its head has no end."""
