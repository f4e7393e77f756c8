"""What must survive a power cut, and where it is."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = Path("/var/lib/yukimi-update")
STATE = FOLDER / "state.json"
OUTCOME = FOLDER / "outcome.json"
PROGRAM = FOLDER / "gate.pyz"


@dataclass(frozen=True, slots=True)
class State:
    """An update that is not decided yet."""

    old: str  # the version that was
    kept: str  # its package
    sha256: str
    python: str  # the interpreter that it needs
    wanted: list[str]  # what it did: see `machine.deeds`
    run: str  # its last life; once it is back, the new version's
    socket: str
    broker: str | None  # that it was connected to,
    speaks: bool  # and whether that answers strangers
    config: str  # the configuration file,
    configuration: str  # a hash of what it said,
    applied: int | None  # and what ran in its place
    trial_s: float  # for so long the new version may be unwell
    settle_s: float  # and for so long it must be well, in one life
    outside_limit_s: float  # and for so long others may be in its way
    waited_s: float = 0.0
    outside_s: float = 0.0
    goes_back: bool = False
    missing: list[str] = field(default_factory=list)  # that the new version did not do

    def is_noted(self, noted: State) -> bool:
        """Tell whether the clocks stand as noted, or nearly."""
        return (
            self.waited_s - noted.waited_s < self.note_s
            and self.outside_s - noted.outside_s < self.outside_limit_s / 20
        )

    @property
    def note_s(self) -> float:
        """How often the trial's clock is written down; each start of the gate costs as much."""
        return self.trial_s / 20


def read_state() -> State | None:
    """Return what is written down, if anything. Raises ValueError if it makes no sense."""
    try:
        return State(**json.loads(STATE.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except TypeError as exc:
        raise ValueError(f"{STATE}: {exc}") from exc


def begin_anew() -> str | None:
    """Let the trial begin anew, with the same way back; return that version, None: there is none.

    The state is another version's, and so is the program that reads it: what this one does not
    know stays as it is. Raises OSError, ValueError if it makes no sense.
    """
    try:
        state = json.loads(STATE.read_text(encoding="utf-8"))
        if sha256(Path(state["kept"])) != state["sha256"]:
            return None
        old = str(state["old"])
    except FileNotFoundError:
        return None
    except (LookupError, TypeError) as exc:
        raise ValueError(f"{STATE}: {exc!r}") from exc
    first = {"waited_s": 0.0, "outside_s": 0.0, "goes_back": False, "missing": []}
    state |= {name: value for name, value in first.items() if name in state}
    put(STATE, json.dumps(state).encode() + b"\n")
    return old


def write_state(state: State) -> None:
    """Write it down. Raises OSError."""
    put(STATE, json.dumps(asdict(state)).encode() + b"\n")


def put(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Write beside, sync, rename, sync the folder. Raises OSError."""
    beside = file.with_name(f"{file.name}.new")
    with beside.open("wb") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.replace(file)
    sync(file.parent)


def take_away(*files: Path) -> None:
    """Remove files so that they stay removed. Raises OSError."""
    for file in files:
        file.unlink(missing_ok=True)
    for folder in dict.fromkeys(file.parent for file in files):
        if folder.is_dir():
            sync(folder)


def sync(folder: Path) -> None:
    """Make the names in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(file: Path) -> str:
    """Return a file's digest; "" if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def sha256_of_configuration(file: Path) -> str:
    """Return a digest of what a configuration's files say."""
    beside = sorted((file.parent / "gateway.d").glob("*.toml"))
    said = [f"{each.name} {sha256(each)}" for each in (file, *beside)]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
