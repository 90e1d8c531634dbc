"""What can go wrong with NATS.

BrokerError
├── NotConnectedError      nothing was sent
├── NoReplyError           sent, and no answer came in time or the connection broke: nobody knows
├── NoRespondersError      nobody listens on the subject: JetStream or the stream is not there
└── ApiError               JetStream answered with an error
"""


class BrokerError(Exception):
    """Something went wrong with NATS."""


class NotConnectedError(BrokerError):
    """There is no connection; nothing was sent."""


class NoReplyError(BrokerError):
    """No answer came in time, or the connection broke before it came; what was sent may have taken effect."""


class NoRespondersError(BrokerError):
    """Nobody listens on the subject (status 503): JetStream or the stream is not there."""


class ApiError(BrokerError):
    """JetStream answered with an error.

    Attributes:
        code: An HTTP-like status.
        err_code: What exactly, as listed in the server's errors.json.
        description: In words.
    """

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} (JetStream error {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
STREAM_EXISTS = 10058
