"""The configuration that last ran, kept so that a wrong one never leaves the street without any.

Kept is what is needed to run it again: the merged document as written, which file held what, the
path of the configuration file (relative names of secrets resolve beside it), and where its records
may wait. Never a secret: the document holds only the names of files that hold them. A valid
configuration is good once a gateway was built from it, committed its first record and started its
threads.

Where: in $STATE_DIRECTORY (systemd sets it), else in the folder of [spool] path. It is looked for
in the same two, then in /var/lib/yukimi. A configuration file that is no TOML cannot tell the path
of its spool: then only $STATE_DIRECTORY and /var/lib/yukimi are left, and without either there is
no last good one. Each configuration file has its own, by a hash of its path in the name.

It is replaced in one step (write beside, sync, rename, sync the folder): after a power cut at any
instant the earlier or the newer one is there, whole. One that is damaged, of a newer version or
of another configuration file is passed over and told of in the log, never a reason to stop.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.load import ConfigError, Toml, Where, read
from config.model import SpoolTable

from .logs import logger
from .plan import Plan, plan_of
from .replacing import replace_file

log = logger("last good")

SCHEMA = "yukimi.last-good/1"
NOT_OURS = (AttributeError, LookupError, TypeError, ValueError)  # JSON of some other shape
DEFAULT_FOLDER = Path(SpoolTable().path).parent


@dataclass(frozen=True, slots=True)
class LastGood:
    """A configuration that has run, and where the records are that were measured under it."""

    config_file: Path
    document: Toml
    origins: Mapping[Where, str] = field(repr=False)
    places: tuple[Path, ...]  # of spools; more than one while a move between them is unfinished

    def plan(self) -> Plan:
        """Plan it again: the drivers may have changed since. Raises ConfigError."""
        return plan_of(self.document, self.config_file, self.origins)


def of_plan(plan: Plan, other_places: tuple[Path, ...] = ()) -> LastGood:
    """Return what there is to keep of a plan."""
    loaded = plan.loaded
    places = (spool_path(plan), *other_places)
    return LastGood(_absolute(loaded.path), loaded.document, loaded.origins, places)


def spool_path(plan: Plan) -> Path:
    """Return the absolute path of a plan's spool."""
    return _absolute(Path(plan.loaded.config.spool.path))


def file_for(config_file: Path, spool: Path) -> Path:
    """Return where the last good one is kept."""
    return (_state_folder() or spool.parent) / _name(config_file)


def find(config_file: Path) -> tuple[LastGood, Path] | None:
    """Find the last good one of a configuration file, and the file that it is kept in."""
    for file in places(config_file):
        try:
            return _read(file, _absolute(config_file)), file
        except FileNotFoundError:
            continue
        except (OSError, RecursionError, *NOT_OURS) as exc:
            log.warning("passed over", file=str(file), why=f"{type(exc).__name__}: {exc}")
    return None


def places(config_file: Path) -> list[Path]:
    """Return where it may be kept, the likeliest first."""
    folders = [_state_folder(), _spool_folder(config_file), DEFAULT_FOLDER]
    known = dict.fromkeys(folder for folder in folders if folder is not None)
    return [folder / _name(config_file) for folder in known]


def store(kept: LastGood, file: Path) -> None:
    """Put it in the place of what `file` holds; a power cut leaves either. Raises OSError."""
    content = _encode(kept)
    try:
        if file.read_bytes() == content:
            return
    except OSError:
        pass
    replace_file(file, content)


def _encode(kept: LastGood) -> bytes:
    body = {
        "config_file": str(kept.config_file),
        "places": [str(place) for place in kept.places],
        "origins": [[list(where), file] for where, file in kept.origins.items()],
        "document": kept.document,
    }
    text = json.dumps(body, ensure_ascii=False, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return json.dumps({"schema": SCHEMA, "sha256": digest, "body": text}).encode() + b"\n"


def _read(file: Path, config_file: Path) -> LastGood:
    outer = json.loads(file.read_text(encoding="utf-8"))
    if outer["schema"] != SCHEMA:
        raise ValueError(f"is {outer['schema']}, this program knows {SCHEMA}")
    text = outer["body"]
    if hashlib.sha256(text.encode()).hexdigest() != outer["sha256"]:
        raise ValueError("is damaged")
    body = json.loads(text)
    if body["config_file"] != str(config_file):
        raise ValueError(f"belongs to {body['config_file']}")
    origins = {tuple(where): holder for where, holder in body["origins"]}
    places = tuple(Path(place) for place in body["places"])
    return LastGood(config_file, body["document"], origins, places)


def _name(config_file: Path) -> str:
    digest = hashlib.sha256(str(_absolute(config_file)).encode()).hexdigest()
    return f"last-good-{digest[:8]}.json"


def _absolute(path: Path) -> Path:
    return path.absolute()


def _state_folder() -> Path | None:
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def _spool_folder(config_file: Path) -> Path | None:
    """Return the folder of the spool that a configuration names, be it right or wrong."""
    try:
        table = read(config_file)[0].get("spool", {})
        return _absolute(Path(SpoolTable.model_validate(table).path)).parent
    except (ConfigError, ValueError):
        return None
