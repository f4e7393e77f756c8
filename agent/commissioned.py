"""The record of an acceptance test, so that what a sensor sends can be traced to it.

Each test leaves one file, in the folder `commissioned` beside the spool: who tested which sensor
when, with which driver and options, what was found, whether it passed. Files are numbered, since a
gateway's clock may be wrong, and none is ever written again; the newest of a sensor counts.

The birth certificate names the day and `record`, the SHA-256 of salt and canonical record: who is
shown the file can tell that it is the one, and from the hash alone nobody can guess what it says.
It is named as long as the sensor has the driver and options it was tested with. Under others it
measures something else, and must be tested again.

Of a people sensor the file holds how many walks were made and whether the sensor passed, never what
it counted: counts of single persons live in memory only, also where these agreed to be counted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .logs import logger
from .newfile import create_file

log = logger("commissioned")

SCHEMA = "yukimi.commission/1"
FOLDER = "commissioned"
MODE = 0o640
MOST_TESTS = 9999  # of one sensor; a name's four digits

Standing = Literal["untested", "passed", "failed", "outdated"]  # outdated: under other options
Test = Literal["known_depth", "walk_through", "readings"]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One test of one sensor, as its file holds it."""

    gateway: str
    sensor: str
    driver: str
    options: str  # memory.digest_of driver and options
    time: str  # UTC, as the gateway's clock had it
    date: str  # the day of that where the gateway is
    clock: Literal["synced", "estimated"]
    by: str
    version: str
    test: Test
    measured: Mapping[str, Any]
    passed: bool
    salt: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def record(self) -> str:
        """What the birth certificate says of it: SHA-256 of the salt and the rest, canonical."""
        rest = asdict(self)
        salt = rest.pop("salt")
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(salt.encode() + text.encode()).hexdigest()

    def encode(self) -> bytes:
        """Write it as its file holds it."""
        document = {"schema": SCHEMA} | asdict(self) | {"record": self.record}
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b"\n"


def folder_of(spool: Path) -> Path:
    """Return where the tests of a gateway with such a spool are kept."""
    return spool.parent / FOLDER


def keep(test: Acceptance, spool: Path) -> Path:
    """Write down a test; return its file. Raises OSError."""
    folder = folder_of(spool)
    folder.mkdir(parents=True, exist_ok=True)
    # The daemon may put a link there: root must not give it what is at the link's end.
    if folder.is_symlink():
        raise OSError(f"{folder}: is a link; move it away")
    # Whoever tests may be root; the daemon, which owns the folder of the spool, must read it.
    owns = spool.parent.stat()
    owner = (owns.st_uid, owns.st_gid) if os.geteuid() == 0 else None
    if owner is not None:
        os.chown(folder, *owner, follow_symlinks=False)
    while True:
        number = 1 + max(_files(folder, test.sensor), default=0)
        if number > MOST_TESTS:
            raise OSError(f"{folder}: full; move older files of {test.sensor} away")
        file = folder / f"{test.sensor}.{number:04d}.json"
        try:
            create_file(file, test.encode(), MODE, owner)
        except FileExistsError:
            continue  # somebody else tested at the same time
        return file


def latest(sensor: str, spool: Path) -> Acceptance | None:
    """Return a sensor's newest test; None where there is none, or none that can be read."""
    folder = folder_of(spool)
    files = _files(folder, sensor)
    if not files:
        return None
    file = files[max(files)]
    try:
        return _read(file)
    except (OSError, RecursionError, LookupError, TypeError, ValueError) as exc:
        log.warning("passed over", file=str(file), why=f"{type(exc).__name__}: {exc}")
        return None


def standing(sensor: str, digest: str, spool: Path) -> tuple[Standing, str]:
    """Return how a sensor stands, and the day of its newest test (empty without one).

    `digest` is memory.digest_of its present driver and options.
    """
    test = latest(sensor, spool)
    if test is None:
        return "untested", ""
    if test.options != digest:
        return "outdated", test.date
    return "passed" if test.passed else "failed", test.date


def birth_of(sensor: str, digest: str, spool: Path) -> dict[str, str] | None:
    """Return what the birth certificate says of a sensor's test, if it passed and still holds."""
    test = latest(sensor, spool)
    if test is None or not test.passed or test.options != digest:
        return None
    return {"date": test.date, "record": test.record}


def follow(old_spool: Path, new_spool: Path) -> None:
    """Bring the tests where the spool has gone; what cannot be brought is told of and left."""
    old, new = folder_of(old_spool), folder_of(new_spool)
    if old == new or not old.is_dir():
        return
    try:
        new.mkdir(parents=True, exist_ok=True)
        for file in sorted(old.glob("*.json")):
            try:
                create_file(new / file.name, file.read_bytes(), MODE)
            except FileExistsError:
                continue  # a test made there is newer than the move
    except OSError as exc:
        log.warning("cannot be moved", folder=str(old), error=str(exc))


def _files(folder: Path, sensor: str) -> dict[int, Path]:
    """Return a sensor's tests by number."""
    found = {}
    try:
        for file in folder.iterdir():
            said = re.fullmatch(rf"{re.escape(sensor)}\.(\d{{4}})\.json", file.name)
            if said is not None:
                found[int(said[1])] = file
    except OSError:
        return {}
    return found


def _read(file: Path) -> Acceptance:
    held = json.loads(file.read_bytes())
    if held.pop("schema") != SCHEMA:
        raise ValueError(f"is none of {SCHEMA}, which this program knows")
    record = held.pop("record")
    test = Acceptance(**held)
    if test.record != record:
        raise ValueError("was changed after the test")
    return test
