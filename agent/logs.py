"""Logs for people and journals: one line an event, key=value, on stderr."""

from __future__ import annotations

import logging
import sys

from .lean import without_extras

# `yukimi run` comes here before anything else can import it.
with without_extras():
    import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def configure(level: str = "info") -> None:
    """Send log lines from `level` upwards to stderr."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(
                key_order=("timestamp", "level", "part", "event"), bool_as_flag=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def place_of(exc: BaseException) -> str:
    """Name an exception's type and where it came from; its message may hold what was measured."""
    place = exc.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None:
        return type(exc).__name__
    code = place.tb_frame.f_code
    return f"{type(exc).__name__} in {code.co_filename}:{place.tb_lineno} ({code.co_qualname})"
