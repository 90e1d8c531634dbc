"""The log: structured events on standard error, JSON for machines and text for people."""

import logging
import sys
from typing import Any, Literal

import orjson
import structlog

_tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # locals may hold secrets
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up(level: str, style: Literal["auto", "text", "json"]) -> None:
    """Configure logging for the whole process."""
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if text else "iso", utc=not text),
        # `event` is a word of the field here, so the text of a line goes by another name
        structlog.processors.EventRenamer("message", replace_by="event_name"),
    ]
    if text:
        processors.append(
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                event_key="message",
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            )
        )
    else:
        processors += [structlog.processors.ExceptionRenderer(_tracebacks), _render_json]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,  # or each line would put its logger together anew
    )
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(max(_LEVELS[level], logging.WARNING))


def _render_json(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    return orjson.dumps(event, default=str).decode()


class _Forward(logging.Handler):
    """Hands what libraries log to the same log."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger(record.name).log(
            record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info
        )
