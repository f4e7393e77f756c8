"""Logs for people and journals: one line an event, key=value, on stderr.

What was seen of people must not get there. A line holds plain values only, whatever it is given.
Of a crash or a warning it says where in the code, never the message; and libraries and drivers of
others, whose words nobody has looked at, say nothing.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, TextIO, cast

from config.text import Text, text_of

from .lean import without_extras
from .loglimit import LogLimit

# `yukimi run` comes here before anything else can import it.
with without_extras():
    import structlog

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
PLAIN = (str, Text, int, float, bool, type(None))
OUR_PACKAGES = ("agent", "drivers", "hil")
DEEPEST = 12  # of a trace: the innermost places

Line = MutableMapping[str, Any]
Processor = Callable[[object, str, Line], Line]
Said = str | int | float | bool | None | Sequence[str]


class Log(Protocol):
    """What a part of the gateway says. Only plain values: the type checker knows that too."""

    def debug(self, event: str, **said: Said) -> object:
        """Say what is of use to who looks for a mistake."""
        ...

    def info(self, event: str, **said: Said) -> object:
        """Say what goes well."""
        ...

    def warning(self, event: str, **said: Said) -> object:
        """Say what somebody may have to look after."""
        ...

    def error(self, event: str, **said: Said) -> object:
        """Say what is wrong."""
        ...


def logger(part: str) -> Log:
    """Return the log of a part of the gateway."""
    log: Log = structlog.get_logger(part=part)
    return log


_LEAST = {"level": "info"}


def level() -> str:
    """Return from which level on lines are said."""
    return _LEAST["level"]


def set_level(level: str) -> None:
    """Say lines from another level upwards, at once and everywhere. Raises KeyError."""
    LEVELS[level]
    _LEAST["level"] = level


def _loud_enough(
    _: object, method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    if LEVELS.get(method, logging.ERROR) < LEVELS[_LEAST["level"]]:
        raise structlog.DropEvent
    return line


class _Unfailing:
    """A stream behind which the disk may be full: the line is lost, and no thread dies of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def _on_stderr(*_: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(cast(TextIO, _Unfailing(sys.stderr)))


# A tool configures nothing, and has its answer on stdout, where structlog would write by itself.
structlog.configure(logger_factory=_on_stderr)


def configure(level: str = "info") -> None:
    """Send log lines from `level` upwards to stderr."""
    set_level(level)
    structlog.configure(
        processors=[
            _loud_enough,
            only_plain,
            seldom(LogLimit(time.monotonic)),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.LogfmtRenderer(
                key_order=("timestamp", "level", "part", "event"), bool_as_flag=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def only_plain(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep everything but plain values out of a line: not even how many there are is told."""
    for name, value in line.items():
        if type(value) in PLAIN:
            continue
        if type(value) is list and all(type(each) is str for each in value):
            continue
        line[name] = f"{type(value).__name__}(withheld)"
    return line


def seldom(limit: LogLimit) -> Processor:
    """Keep back what was said too often, and tell how often it was."""

    def keep_back(_: object, __: str, line: Line) -> Line:
        before = limit.kept_back(line)
        if before is None:
            raise structlog.DropEvent
        if before:
            line["kept_back"] = before
        return line

    return keep_back


def hush() -> None:
    """Let crashes and warnings say where they come from and no more, and others say nothing.

    For the daemon: it takes hold of the whole process.
    """
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed
    sys.unraisablehook = _unraisable
    warnings.showwarning = _warned
    logging.disable()
    # Of a crash in C, and of what a watchdog ends because main hangs, or all of Python: the
    # functions in which each thread was, and no value.
    faulthandler.enable()
    # What a driver was left to print goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def place_of(exc: BaseException) -> str:
    """Name an exception's type and where it came from; its message may hold what was measured."""
    place = _innermost(exc)
    if place is None:
        return type(exc).__name__
    code = place.tb_frame.f_code
    return f"{type(exc).__name__} in {code.co_filename}:{place.tb_lineno} ({code.co_qualname})"


def places_of(thread: str) -> list[str]:
    """Name where a thread is just now, the innermost place first; nothing where it is not."""
    number = next((each.ident for each in threading.enumerate() if each.name == thread), None)
    frame = None if number is None else sys._current_frames().get(number)
    places: list[str] = []
    while frame is not None and len(places) < DEEPEST:
        code = frame.f_code
        places.append(f"{code.co_filename}:{frame.f_lineno} ({code.co_qualname})")
        frame = frame.f_back
    return places


def words_of(exc: BaseException, *, of_people: bool) -> Text:
    """Return what may be said of an error of a sensor: of people only in words that are known.

    Those are the gateway's own. A driver of others may quote in its message what its device saw:
    of that the place is told.
    """
    place = _innermost(exc)
    module = "" if place is None else str(place.tb_frame.f_globals.get("__name__", ""))
    is_ours = module.partition(".")[0] in OUR_PACKAGES
    return text_of(exc if is_ours or not of_people else place_of(exc))


def _innermost(exc: BaseException) -> TracebackType | None:
    place = exc.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place


def _crashed(
    kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None
) -> None:
    _bug("main", kind, exc, trace)


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_type is SystemExit:  # it just ends
        return
    name = "?" if crash.thread is None else crash.thread.name
    _bug(name, crash.exc_type, crash.exc_value, crash.exc_traceback)


def _unraisable(crash: Any) -> None:
    _bug("?", crash.exc_type, crash.exc_value, crash.exc_traceback)


def _bug(
    thread: str,
    kind: type[BaseException],
    exc: BaseException | None,
    trace: TracebackType | None,
) -> None:
    frames = traceback.extract_tb(trace)[-DEEPEST:]
    logger("crash").error(
        "bug in a thread",
        thread=thread,
        error=kind.__name__ if exc is None else place_of(exc),
        through=[f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)],
    )


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    logger("code").warning("warning", kind=category.__name__, place=f"{filename}:{lineno}")
