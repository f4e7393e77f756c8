"""An update that goes wrong comes back by itself: systemd booted, the real package, Mosquitto."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deb.conftest import Build
from tests.deb.systems import System, variant, wait

BROKEN = "#!/bin/sh\nexit 1\n"
INIT = "yukimi init --yes --id trial --broker mqtt://127.0.0.1 --sensors simulated --clock system"
NOBODY_LISTENS = (
    r"sed -i 's/^\[uplink\]/[uplink]\nrequire_subscriber = false/' /etc/yukimi/gateway.toml"
)
OLD, BAD, GOOD = "0.1.0-1~deb12", "0.2.0-1", "0.3.0-1"
TRIAL = "UPDATE_TRIAL_S=40\nUPDATE_SETTLE_S=3\n"


def break_it(tree: Path) -> None:
    (tree / "opt/yukimi/bin/yukimi").write_text(BROKEN)


def status(debian: System) -> dict[str, object]:
    said = debian.run("yukimi status --json 2>/dev/null", code=None)
    return json.loads(said) if said.startswith("{") else {}


def delivers(debian: System) -> bool:
    match status(debian):
        case {"uplink": {"connected_since": str(), "acknowledged": str()}}:
            return True
    return False


def outcome(debian: System) -> str:
    file = debian.root / "var/lib/yukimi-update/outcome.json"
    return str(json.loads(file.read_text())["outcome"]) if file.exists() else ""


@pytest.fixture
def gateway(system: Callable[[str], System], build: Build, tmp_path: Path) -> System:
    """A gateway that runs as a service and delivers, and two updates beside it."""
    debian = system("bookworm")
    package = build("bookworm", "amd64")
    debian.put(variant(package, tmp_path, BAD, break_it))
    debian.put(variant(package, tmp_path, GOOD, lambda tree: None))
    debian.write("/etc/default/yukimi", TRIAL)
    debian.boot()
    debian.run(f"dpkg -i {debian.put(package)} && {INIT} && {NOBODY_LISTENS}", code=None)
    debian.run("systemctl enable --now mosquitto yukimi")
    wait(lambda: delivers(debian))
    return debian


def test_a_bad_version_comes_back_and_a_good_one_stays(gateway: System) -> None:
    gateway.run(f"dpkg -i /packages/yukimi_{BAD}.deb")
    wait(lambda: outcome(gateway) == "rolled back")
    assert gateway.version() == f"ii {OLD}"
    wait(lambda: delivers(gateway))
    assert f"Pin: version {BAD}" in gateway.run("cat /etc/apt/preferences.d/yukimi-refused.pref")
    assert gateway.run("systemctl list-unit-files | grep -c update-gate", code=1) == "0\n"

    gateway.run(f"dpkg -i /packages/yukimi_{GOOD}.deb")
    wait(lambda: outcome(gateway) == "kept")
    assert gateway.version() == f"ii {GOOD}"
    assert delivers(gateway)


def test_a_bad_version_comes_back_after_a_power_cut_too(gateway: System) -> None:
    gateway.run(f"dpkg -i /packages/yukimi_{BAD}.deb")
    gateway.cut_power()
    gateway.boot()
    wait(lambda: outcome(gateway) == "rolled back")
    assert gateway.version() == f"ii {OLD}"
    wait(lambda: delivers(gateway))


def test_without_the_gate_a_bad_version_stays_bad(gateway: System) -> None:
    gateway.run(f"YUKIMI_GATE=off dpkg -i /packages/yukimi_{BAD}.deb")
    gateway.run("sleep 50")  # longer than the trial would have been
    assert gateway.version() == f"ii {BAD}"
    assert not delivers(gateway)
