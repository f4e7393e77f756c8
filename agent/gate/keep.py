"""Before an upgrade, the version that runs keeps itself and arms the gate."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from .machine import PACKAGE, SERVICE, ask_status, deeds, installed, is_there, say, systemctl
from .state import (
    FOLDER,
    PROGRAM,
    State,
    begin_anew,
    put,
    sha256,
    sha256_of_configuration,
    sync,
    write_state,
)

UNITS = Path("/etc/systemd/system")
UNIT = "yukimi-update-gate.service"
WANTED = UNITS / "multi-user.target.wants" / UNIT
FOR_PEOPLE = Path("/usr/share")
SETTINGS = Path("/etc/default/yukimi")
TRIAL_S = 600.0
SETTLE_S = 30.0
OUTSIDE_S = 86_400.0

UNIT_TEXT = f"""\
[Unit]
Description=yukimi: a new version is on trial
ConditionPathExists={PROGRAM}
Before={SERVICE}

[Service]
Type=notify
ExecStart=/usr/bin/python3 -I {PROGRAM} run
Restart=on-failure
RestartSec=10
# It may have to wait for dpkg, and then to repair what was interrupted.
TimeoutStartSec=infinity
TimeoutStopSec=600
KillMode=mixed
"""
MAIN = "import sys\nfrom gate.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"


def arm() -> int:
    """Keep this version and start the gate; 0 also where there is nothing to watch over."""
    try:
        # What is replaced may be on trial itself: then the version before it stays the way back.
        old = begin_anew()
        if old is not None:
            say("the version on trial is replaced; the way back stays", old=old)
        else:
            place, config = _places()
            try:
                status = ask_status(place)
            except (OSError, ValueError):
                say("the gateway does not run: this update is not watched")
                return 0
            write_state(_keep_all(status, place, config))
    except subprocess.CalledProcessError as exc:
        say("this version cannot be kept", why=exc, said=exc.stderr.strip())
        return 1
    except (LookupError, OSError, TypeError, ValueError) as exc:
        say("this version cannot be kept", why=exc)
        return 1
    systemctl("daemon-reload")
    systemctl("--no-block", "restart", UNIT)
    return 0


def _keep_all(status: dict[str, Any], place: Path, config: Path) -> State:
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    version = installed()[1]
    kept = keep(version)
    for other in FOLDER.glob("*.deb"):
        if other != kept:
            other.unlink()
    put(PROGRAM, program())
    put(UNITS / UNIT, UNIT_TEXT.encode(), mode=0o644)
    WANTED.parent.mkdir(parents=True, exist_ok=True)
    if not WANTED.is_symlink():
        WANTED.symlink_to(UNITS / UNIT)
        sync(WANTED.parent)
    settings = read_settings()
    broker = status["uplink"]["broker"]
    return State(
        old=version,
        kept=str(kept),
        sha256=sha256(kept),
        python=str(Path(sys.executable).resolve()),
        wanted=sorted(deeds(status)),
        run=status["gateway"]["run"],
        socket=str(place),
        broker=broker,
        speaks=is_there(broker),
        config=str(config),
        configuration=sha256_of_configuration(config),
        applied=status["gateway"]["applied"],
        trial_s=float(settings.get("UPDATE_TRIAL_S", TRIAL_S)),
        settle_s=float(settings.get("UPDATE_SETTLE_S", SETTLE_S)),
        outside_limit_s=float(settings.get("UPDATE_OUTSIDE_S", OUTSIDE_S)),
    )


def keep(version: str) -> Path:
    """Make a package of the installed files, so that it matters not how they came here.

    Raises OSError, CalledProcessError.
    """
    architecture = _output("dpkg-query", "-W", "-f", "${Architecture}", PACKAGE)
    file = FOLDER / f"{PACKAGE}_{version.replace(':', '%3a')}_{architecture}.deb"
    tree, beside = FOLDER / "tree", file.with_suffix(".new")
    shutil.rmtree(tree, ignore_errors=True)  # of an attempt that the power ended
    try:
        _lay_out(tree)
        # Little compression: a Raspberry Pi would think for a minute, and the space is free again.
        pack = ("--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(beside))
        _output("dpkg-deb", *pack)
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(file)
    finally:
        shutil.rmtree(tree, ignore_errors=True)
        beside.unlink(missing_ok=True)
    sync(FOLDER)
    return file


def _lay_out(tree: Path) -> None:
    scripts = tree / "DEBIAN"
    scripts.mkdir(parents=True)
    tree.chmod(0o755)
    scripts.chmod(0o755)
    fields = _output("dpkg-query", "-s", PACKAGE).splitlines(keepends=True)
    control = (line for line in fields if not line.startswith(("Status:", "Config-Version:")))
    (scripts / "control").write_text("".join(control), encoding="utf-8")
    for script in _output("dpkg-query", "--control-path", PACKAGE).split():
        shutil.copy2(script, scripts / Path(script).suffix[1:])
    for name in _output("dpkg-query", "-L", PACKAGE).splitlines():
        source = Path(name)
        # Lean systems have dpkg leave documentation out (path-exclude); it lists it all the same.
        if source.is_relative_to(FOR_PEOPLE) and not source.exists():
            continue
        _copy(source, tree / name.lstrip("/."))


def program() -> bytes:
    """Return this folder as one file that Python runs."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("__main__.py", MAIN)
        for file in sorted(Path(__file__).parent.glob("*.py")):
            archive.writestr(f"gate/{file.name}", file.read_bytes())
    return packed.getvalue()


def read_settings() -> dict[str, str]:
    """Return the lines NAME=VALUE of the defaults file. Raises OSError, ValueError."""
    if not SETTINGS.exists():
        return {}
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    parts = (line.partition("=") for line in lines if not line.startswith("#"))
    return {name.strip(): value.strip() for name, found, value in parts if found}


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir(exist_ok=True)
        target.chmod(0o755)
    else:
        try:
            target.hardlink_to(source)
        except OSError:  # on another file system
            shutil.copy2(source, target)


def _places() -> tuple[Path, Path]:
    """Return where the gateway can be asked, and where its configuration is."""
    # Absolute: the copy has neither, and never arms.
    from agent.asking import socket_path
    from config.places import default_path

    return socket_path(), default_path().absolute()


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
