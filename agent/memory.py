"""What a gateway remembers of its sensors over a restart: one small file beside the spool.

The depth on the last full hour, the snow since the last clearing, how well forecasts were: little,
and nothing about people. It is written seldom, so that a power cut costs the last minutes of it and
the card is spared; it is replaced in one step. What cannot be read or understood is left: then the
sensors begin as on their first day, and no record is lost by it.

What is remembered of a sensor holds for its driver and options: on another mount it would be wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .logs import logger
from .replacing import replace_file

log = logger("memory")

SCHEMA = "yukimi.memory/1"

State = Mapping[str, Any]


def digest_of(driver: str, options: object) -> str:
    """Return what tells one mount of a sensor from another."""
    text = json.dumps([driver, options], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_of(spool: Path) -> Path:
    """Return where the memory of a gateway with such a spool is."""
    return spool.with_name(f"{spool.name}.memory")


def follow(old_spool: Path, new_spool: Path) -> None:
    """Move the file where the spool has gone; where that fails the sensors begin anew."""
    old, new = file_of(old_spool), file_of(new_spool)
    try:
        replace_file(new, old.read_bytes())
        old.unlink()
    except FileNotFoundError:
        return
    except OSError as exc:
        log.warning("cannot be moved", file=str(old), error=str(exc))


class Memory:
    """The file, and what it held when it was read. `digests` are those of the present sensors."""

    def __init__(self, spool: Path, digests: Mapping[str, str]) -> None:
        """Read what the life before left beside `spool`."""
        self._file = file_of(spool)
        self._digests = dict(digests)
        self._written: bytes | None = None
        self._has_failed = False
        self._states = self._read()

    def of(self, sensor: str) -> State | None:
        """Return what the life before left of a sensor; None where there is nothing of use."""
        return self._states.get(sensor)

    def keep(self, states: Mapping[str, State]) -> None:
        """Write down what must be known after a restart.

        A disk that fails, or a state that is no JSON, is told of once: records go on.
        """
        sensors = {
            name: {"digest": self._digests[name], "state": state} for name, state in states.items()
        }
        try:
            content = json.dumps({"schema": SCHEMA, "sensors": sensors}, allow_nan=False).encode()
            if content == self._written:
                return
            replace_file(self._file, content)
        except (OSError, TypeError, ValueError) as exc:
            if not self._has_failed:
                log.warning("cannot be written", file=str(self._file), error=str(exc))
            self._has_failed = True
        else:
            self._written, self._has_failed = content, False

    def _read(self) -> dict[str, State]:
        try:
            held = json.loads(self._file.read_bytes())
            if held["schema"] != SCHEMA:
                raise ValueError(f"is {held['schema']}, this program knows {SCHEMA}")
            return {
                name: dict(each["state"])
                for name, each in held["sensors"].items()
                if each["digest"] == self._digests.get(name)
            }
        except FileNotFoundError:
            return {}
        except (OSError, RecursionError, AttributeError, LookupError, TypeError, ValueError) as exc:
            why = f"{type(exc).__name__}: {exc}"
            log.warning("passed over", file=str(self._file), why=why)
            return {}
