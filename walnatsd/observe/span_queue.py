"""The way of spans out of the daemon: a bounded queue, and a thread that hands them to the exporter.

Whatever the exporter does, nobody waits for it: what does not fit the queue is dropped and counted.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from walnatsd.observe.errors import ObserveError
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.sparingly import Sparingly

SAY_AGAIN_S = 60.0
HOPELESS_S = 1.0
_QUEUE_SIZE, _BATCH_SIZE, _DELAY_MS = 2048, 512, 1000

_log = structlog.get_logger("walnatsd.tracing")


class SpanQueue(SpanProcessor):
    """Gathers spans that have ended and exports them in batches.

    The sizes and the pause are those of OTEL_BSP_MAX_QUEUE_SIZE, OTEL_BSP_MAX_EXPORT_BATCH_SIZE and
    OTEL_BSP_SCHEDULE_DELAY (milliseconds), which the OpenTelemetry specification names.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        endpoint: str,
        metrics: Metrics,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to export.

        Args:
            exporter: Sends a batch, and waits for the answer.
            endpoint: Where to, for people.
            metrics: Where spans are counted.
            environ: The environment, with the options.
            clock: Gives the time in seconds, for what is not said again too soon.

        Raises:
            ObserveError: An option is no whole number that makes sense.
        """
        self._exporter = exporter
        self._endpoint = endpoint
        self._metrics = metrics
        self._size = _whole(environ, "OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE_SIZE)
        self._batch_size = min(_whole(environ, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", _BATCH_SIZE), self._size)
        self._delay_s = _whole(environ, "OTEL_BSP_SCHEDULE_DELAY", _DELAY_MS) / 1000
        self._queue: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._abandoned = False
        self._failing = False
        self._complaints = Sparingly(SAY_AGAIN_S, clock)
        self._why = _LastWords()
        self._thread = threading.Thread(target=self._export_until_stopped, name="spans", daemon=True)
        self._thread.start()

    # ---- what the SDK calls

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing is exported before its end."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span, or drop it where the queue is full."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        if self._stopping or len(self._queue) >= self._size:
            self._metrics.spans("dropped").inc()
            return
        self._queue.append(span)
        if len(self._queue) >= self._batch_size:
            self._wake.set()

    def shutdown(self) -> None:
        """Nothing: `stop` does it, within a time."""

    def force_flush(self, timeout_millis: int | None = None) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing: what is gathered leaves soon anyway."""
        return True

    # ---- the thread

    def _export_until_stopped(self) -> None:
        while not self._stopping:
            self._wake.wait(self._delay_s)
            self._wake.clear()
            self._export_all()
        self._export_all()

    def _export_all(self) -> None:
        while self._queue and not self._abandoned:
            batch = [self._queue.popleft() for _ in range(min(self._batch_size, len(self._queue)))]
            try:
                exported = self._exporter.export(batch) is SpanExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - whatever an exporter does, tracing must not end for it
                exported = False
                self._why.note(repr(error))
            self._failing = not exported
            self._metrics.spans("exported" if exported else "failed").inc(len(batch))
            if not exported:
                self._say()

    def _say(self) -> None:
        if self._complaints.may_say():
            _log.warning(
                "spans can't be exported; they are lost, nothing else is", endpoint=self._endpoint, why=self._why.told
            )

    async def stop(self, within_s: float) -> None:
        """Export what is gathered, for `within_s` seconds at most; what is left then is dropped.

        Where the last batch could not be exported either, there is little hope, and the stop does not wait for it long.
        """
        patience_s = min(within_s, HOPELESS_S) if self._failing else within_s
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, patience_s)
        self._abandoned = True
        if self._thread.is_alive():
            left = len(self._queue)
            self._metrics.spans("dropped").inc(left)
            _log.warning(
                "the last spans could not be exported in time",
                endpoint=self._endpoint, left=left, why=self._why.told,
            )  # fmt: skip
        self._exporter.shutdown()
        self._why.close()


class _LastWords(logging.Handler):
    """Keeps what the exporters say of a failure, for one warning instead of one for each batch and each try."""

    def __init__(self) -> None:
        super().__init__()
        self._last: deque[str] = deque(maxlen=2)  # the exporters tell the cause first, and then that they give up
        self._logger = logging.getLogger("opentelemetry.exporter")
        self._propagated = self._logger.propagate
        self._logger.propagate = False
        self._logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.note(record.getMessage())

    def note(self, words: str) -> None:
        """Keep words that came otherwise."""
        if words not in self._last:
            self._last.append(words)

    @property
    def told(self) -> str:
        """What was said last."""
        return "; ".join(self._last)

    def close(self) -> None:
        """Let the exporters speak for themselves again."""
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagated
        super().close()


def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    value: Any = environ.get(name) or default
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise ObserveError(f"the environment variable {name} is a whole number from 1, not {value!r}")
    return number
