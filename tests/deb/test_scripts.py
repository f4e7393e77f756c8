"""What dpkg's scripts ask of systemd, run by a shell in a folder that is their system."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "deb"
OLD = "0.1.0-1"
SERVICE, TIMER = "yukimi.service", "yukimi-renew.timer"
UNITS = {path.name for path in (SCRIPTS.parent / "systemd").glob("*.service")}
UNITS |= {path.name for path in (SCRIPTS.parent / "systemd").glob("*.timer")}
GATE = "yukimi-update-gate.service"  # which the gate makes
# Units, each of which runs as long as a file is there.
SYSTEMCTL = """\
for unit; do :; done
case "$*" in
*is-active*) [ -e "$ACTIVE/$unit" ] ;;
*try-restart*) ;;
*"stop $unit") rm -f "$ACTIVE/$unit" ;;
*"start $unit") : >"$ACTIVE/$unit" ;;
esac
"""


class System:
    """A folder as the scripts' root; dpkg, as it were, with systemd running."""

    def __init__(self, folder: Path) -> None:
        self._root = folder / "root"
        self._commands = folder / "bin"
        self._active = folder / "active"
        self._active.mkdir()
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
    def running(self) -> set[str]:
        return {unit.name for unit in self._active.iterdir()}

    def start(self, unit: str) -> None:
        (self._active / unit).touch()

    def stop(self, unit: str) -> None:
        (self._active / unit).unlink()

    def enable(self, unit: str, target: str) -> Path:
        """Do what `systemctl enable` does."""
        link = self._root / f"etc/systemd/system/{target}.wants/{unit}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/usr/lib/systemd/system/{unit}")
        return link


@pytest.fixture
def system(tmp_path: Path) -> System:
    """A gateway that runs."""
    system = System(tmp_path)
    system.run("postinst", "configure", "")
    assert system.running == {SERVICE}
    return system


@pytest.mark.parametrize("back", [("configure", OLD), ("abort-deconfigure",), ("abort-remove",)])
@pytest.mark.parametrize("gone", ["remove", "deconfigure"])
@pytest.mark.parametrize("ran", [{SERVICE}, {SERVICE, TIMER}, {TIMER}, set()], ids=sorted)
def test_what_was_taken_apart_runs_again_if_it_ran(
    system: System, gone: str, back: tuple[str, ...], ran: set[str]
) -> None:
    system.stop(SERVICE)
    for unit in ran:
        system.start(unit)
    system.run("prerm", gone)
    system.run("prerm", gone)  # any script may be run again
    assert system.running == set()
    system.run("postinst", *back)
    system.run("postinst", *back)
    assert system.running == ran


def test_no_unit_of_the_package_survives_it(system: System) -> None:
    for unit in {*UNITS, GATE}:
        system.start(unit)
    system.run("prerm", "remove")
    assert system.running == set()


def test_a_purge_leaves_no_link_to_a_unit(system: System) -> None:
    links = [system.enable(SERVICE, "multi-user.target"), system.enable(TIMER, "timers.target")]
    other = system.enable("other.service", "multi-user.target")
    system.run("prerm", "remove")
    system.run("postrm", "remove")
    assert all(link.is_symlink() for link in links)  # installed again, it is as it was
    system.run("postrm", "purge")
    assert not any(link.is_symlink() for link in links)
    assert other.is_symlink()


def test_an_upgrade_stops_nothing(system: System) -> None:
    system.start(TIMER)
    system.run("prerm", "upgrade", "0.2.0-1")
    system.run("postinst", "configure", OLD)
    assert system.running == {SERVICE, TIMER}


def test_an_update_starts_nothing_that_somebody_stopped(system: System) -> None:
    system.run("prerm", "deconfigure")
    system.run("postinst", "configure", OLD)
    system.stop(SERVICE)
    system.run("postinst", "configure", OLD)
    assert system.running == set()
