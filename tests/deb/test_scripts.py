"""What dpkg's scripts ask of systemd, run by a shell in a folder that is their system."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "deb"
OLD = "0.1.0-1"
# One unit, which runs as long as a file is there.
SYSTEMCTL = """\
case "$*" in
*is-active*) [ -e "$ACTIVE" ] ;;
*"stop yukimi.service") rm -f "$ACTIVE" ;;
*try-restart*) ;;
*"start yukimi.service") : >"$ACTIVE" ;;
esac
"""


class System:
    """A folder as the scripts' root; dpkg, as it were, with systemd running."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "root"
        self._commands = folder / "bin"
        self._active = folder / "active"
        for name in ("run/systemd/system", "etc/yukimi/gateway.d", "opt/yukimi/lib"):
            (self._root / name).mkdir(parents=True)
        (self._root / "etc/yukimi/gateway.toml").touch()
        self._command(self._commands / "systemctl", SYSTEMCTL)
        for name in ("systemd-sysusers", "deb-systemd-helper", "udevadm"):
            self._command(self._commands / name, "")
        self._command(self._root / "opt/yukimi/bin/python3", "")

    def _command(self, file: Path, body: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{body}", "utf-8")
        file.chmod(0o755)

    def run(self, script: str, *arguments: str) -> None:
        text = (SCRIPTS / script).read_text("utf-8")
        text = re.sub(r"(?<![\w/])/(?=(run|var|etc|opt|usr)/)", f"{self._root}/", text)
        environment = {"PATH": f"{self._commands}:{os.defpath}", "ACTIVE": str(self._active)}
        subprocess.run(["sh", "-c", text, script, *arguments], env=environment, check=True)

    @property
    def is_running(self) -> bool:
        return self._active.exists()

    def stop(self) -> None:
        self._active.unlink()


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A gateway that runs."""
    system = System(tmp_path)
    system.run("postinst", "configure", "")
    assert system.is_running
    return system


@pytest.mark.parametrize("back", [("configure", OLD), ("abort-deconfigure",), ("abort-remove",)])
@pytest.mark.parametrize("gone", ["remove", "deconfigure"])
@pytest.mark.parametrize("ran", [True, False])
def test_what_was_taken_apart_runs_again_if_it_ran(
    system: System, gone: str, back: tuple[str, ...], ran: bool
) -> None:
    if not ran:
        system.stop()  # by hand
    system.run("prerm", gone)
    assert not system.is_running
    system.run("postinst", *back)
    system.run("postinst", *back)  # any script may be run again
    assert system.is_running is ran


def test_an_update_starts_nothing_that_somebody_stopped(system: System) -> None:
    system.run("prerm", "deconfigure")
    system.run("postinst", "configure", OLD)
    system.stop()
    system.run("postinst", "configure", OLD)
    assert not system.is_running
