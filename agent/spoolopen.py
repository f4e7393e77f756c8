"""Which spool to look at: the running gateway's, as it tells; else its file; or one by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .asking import Asking, NotAnsweredError, socket_path
from .place import place_of
from .record import utc_text
from .resting import RestingSpool
from .spoolanswers import AskedSpool
from .spoolfile import beside
from .spoolview import Figures, Source

ANSWER_S = 30.0  # a large spool on a slow card


@contextmanager
def open_spool(
    config_file: Path, file: Path | None = None, *, needs_gateway: bool = True
) -> Iterator[Source]:
    """Open the spool of a configuration, or a file that was named.

    Of such a file nobody is asked, and only with `needs_gateway` the configuration is read, for
    whose records they are. Raises FileNotFoundError where there is no spool, SpoolError,
    ConfigError; NotAnsweredError once somebody has begun to answer.
    """
    if file is not None:
        gateway = place_of(config_file).gateway.id if needs_gateway else None
        with RestingSpool(file, gateway=gateway) as resting:
            yield resting
        return
    with ExitStack() as stack:
        try:
            asking = stack.enter_context(Asking(socket_path(config_file), timeout_s=ANSWER_S))
        except NotAnsweredError:
            place = place_of(config_file)
            path, room_bytes = Path(place.spool.path), place.spool.max_bytes
            resting = RestingSpool(path, gateway=place.gateway.id, max_bytes=room_bytes)
            yield stack.enter_context(resting)
            return
        yield AskedSpool(lambda name, asked: asking.ask(name, **asked))


def named(source: Source) -> dict[str, Any]:
    """Return which spool it is."""
    return {
        "from": "gateway" if source.about.is_in_use else "file",
        "gateway": source.about.gateway,
        "path": source.about.path,
    }


def described(source: Source, figures: Figures) -> dict[str, Any]:
    """Return what waits, as a document."""
    about, aside = source.about, set_aside(Path(source.about.path))
    oldest_ns, newest_ns = figures.oldest_ns, figures.newest_ns
    return {
        **named(source),
        "bytes": about.bytes,
        "max_bytes": about.max_bytes,
        "why_volatile": about.why_volatile,
        "waiting": figures.records,
        "held": figures.held,
        "lost": figures.lost,
        "oldest": None if oldest_ns is None else utc_text(oldest_ns),
        "newest": None if newest_ns is None else utc_text(newest_ns),
        "alarms": figures.alarms,
        "runs": [run.json() for run in figures.runs],
        "damaged_file": None if aside is None else {"path": str(aside[0]), "bytes": aside[1]},
    }


def set_aside(path: Path) -> tuple[Path, int] | None:
    """Return a damaged file that was set aside, and its size."""
    aside = beside(path, ".damaged")
    try:
        return aside, aside.stat().st_size
    except OSError:
        return None
