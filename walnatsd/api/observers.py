"""Traces and reports, as the config wants them. What nobody wants is not even imported, for it may not be installed."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from walnatsd.config.load import Loaded
from walnatsd.config.settings import Config
from walnatsd.observe.metrics import Metrics
from walnatsd.observe.reports import Reports
from walnatsd.observe.statsd import Statsd

if TYPE_CHECKING:  # needs an extra
    from walnatsd.observe.spans import Tracing


@contextlib.asynccontextmanager
async def tracing_of(
    config: Config, metrics: Metrics, *, stop_within_s: Callable[[], float]
) -> AsyncIterator["Tracing | None"]:
    """Trace while the body runs, where that is wanted; raises ObserveError."""
    if config.otel is None:
        yield None
        return
    from walnatsd.observe.tracing import open_tracing  # noqa: PLC0415 - see above

    async with open_tracing(
        config.otel.endpoint,
        sample_ratio=config.otel.sample_ratio,
        service=config.service.name,
        metrics=metrics,
        stop_within_s=stop_within_s,
    ) as tracing:
        yield tracing


@contextlib.asynccontextmanager
async def reports_of(
    loaded: Loaded, metrics: Metrics, *, stop_within_s: Callable[[], float]
) -> AsyncIterator[Reports | None]:
    """Report to StatsD and Sentry while the body runs, where that is wanted. Who runs the daemon runs what is of StatsD."""
    config = loaded.config
    statsd = Statsd(*config.statsd.host_and_port, metrics) if config.statsd is not None else None
    if config.sentry is None:
        yield Reports(statsd, None) if statsd is not None else None
        return
    from walnatsd.observe.sentry import open_sentry  # noqa: PLC0415 - see above

    dsn = loaded.secrets.reveal(config.sentry.dsn)
    async with open_sentry(dsn, service=config.service.name, metrics=metrics, stop_within_s=stop_within_s) as sentry:
        yield Reports(statsd, sentry)
