"""What NATS answers, as refusals."""

from walnatsd.broker.errors import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, ApiError, BrokerError
from walnatsd.model.refusal import Reason, Refusal


class explained:  # noqa: N801 - used as `with explained(…)`
    """Turns what NATS answers into refusals: `missing`, in words, where there is no such stream or consumer."""

    def __init__(self, missing: str = "", reason: Reason = Reason.UNKNOWN_ACTOR) -> None:
        self._missing = missing
        self._reason = reason

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ApiError):
            if error.err_code in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND) and self._missing:
                raise Refusal(self._reason, self._missing) from None
            raise Refusal(Reason.NATS_ERROR, str(error)) from None
        if isinstance(error, BrokerError):
            raise Refusal(Reason.NATS_UNAVAILABLE, str(error), retry_after_s=1.0) from None
