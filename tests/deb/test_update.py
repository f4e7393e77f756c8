"""An update that goes wrong comes back by itself: systemd booted, the real package, Mosquitto."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.vpi.packages import variant
from tests.deb.conftest import Build, fresh_system
from tests.deb.systems import System, wait

INIT = "yukimi init --yes --id trial --broker mqtt://127.0.0.1 --sensors simulated --clock system"
NOBODY_LISTENS = (
    r"sed -i 's/^\[uplink\]/[uplink]\nrequire_subscriber = false/' /etc/yukimi/gateway.toml"
)
OLD, BAD, GOOD = "0.1.0-1~deb12", "0.2.0-1", "0.3.0-1"
FOLDER = "/var/lib/yukimi-update"
REFUSED = "/etc/apt/preferences.d/yukimi-refused.pref"
# Seconds of trial: nothing makes the bad one well, but the old one must have the time to do better
# once it is back; and the good one has time.
SHORT, LONG = 60, 240


def break_it(tree: Path) -> None:
    (tree / "opt/yukimi/bin/yukimi").write_text("#!/bin/sh\nexit 1\n")


@pytest.fixture(scope="module")
def running(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A gateway that runs as a service, and packages of three versions."""
    folder = tmp_path_factory.mktemp("update")
    with fresh_system("bookworm", folder / "system") as debian:
        package = build("bookworm", "amd64")
        packages = [package, variant(package, folder, BAD, break_it)]
        packages.append(variant(package, folder, GOOD, lambda tree: None))
        for version, file in zip((OLD, BAD, GOOD), packages, strict=True):
            debian.put(file, f"{version}.deb")
        debian.boot()
        debian.run(f"dpkg -i /packages/{OLD}.deb")
        debian.run(f"{INIT} && {NOBODY_LISTENS}")
        debian.run("systemctl enable --now mosquitto yukimi")
        yield debian


@pytest.fixture
def gateway(running: System) -> System:
    """It delivers, in the old version, and knows of no update."""
    if running.version() != f"ii {OLD}":
        running.run(f"YUKIMI_GATE=off dpkg -i /packages/{OLD}.deb")
        running.run("systemctl restart yukimi")  # and no more of the version before is heard
    running.run(f"rm -rf {FOLDER} {REFUSED}")
    wait(lambda: delivers(running))
    return running


def delivers(debian: System) -> bool:
    said = debian.run("yukimi status --json 2>/dev/null", code=None)
    match json.loads(said) if said.startswith("{") else {}:
        case {"uplink": {"connected_since": str(), "acknowledged": str()}}:
            return True
    return False


def outcome(debian: System) -> str:
    said = debian.run(f"cat {FOLDER}/outcome.json", code=None)
    return str(json.loads(said)["outcome"]) if said.startswith("{") else ""


def update(debian: System, version: str, trial_s: int) -> None:
    """Update as people do."""
    debian.run(f"printf 'UPDATE_TRIAL_S={trial_s}\nUPDATE_SETTLE_S=3\n' > /etc/default/yukimi")
    debian.run(f"apt-get install -y --no-install-recommends /packages/{version}.deb")


def assert_the_old_one_is_back(debian: System) -> None:
    wait(lambda: outcome(debian) == "rolled back")
    assert debian.version() == f"ii {OLD}"
    wait(lambda: delivers(debian))
    assert f"Pin: version {BAD}\n" in debian.run(f"cat {REFUSED}")
    assert debian.run("find /etc/systemd -name '*update-gate*'") == ""


def test_a_version_that_does_not_run_comes_back(gateway: System) -> None:
    update(gateway, BAD, SHORT)
    assert_the_old_one_is_back(gateway)


def test_it_comes_back_after_a_power_cut_too(gateway: System) -> None:
    update(gateway, BAD, SHORT)
    gateway.cut_power()
    gateway.boot()
    assert_the_old_one_is_back(gateway)


def test_a_version_that_delivers_stays(gateway: System) -> None:
    update(gateway, GOOD, LONG)
    wait(lambda: outcome(gateway) == "kept")
    assert gateway.version() == f"ii {GOOD}"
    assert delivers(gateway)
    assert f"yukimi_{OLD}_amd64.deb" in gateway.run(f"ls {FOLDER}")


def test_an_update_without_a_way_back_is_refused(gateway: System) -> None:
    gateway.run(f"mkdir -p {FOLDER} && mount -t tmpfs -o size=1m tmpfs {FOLDER}")
    said = gateway.run(f"dpkg -i /packages/{GOOD}.deb; umount {FOLDER}")
    assert "could not be kept" in said
    assert gateway.version() == f"ii {OLD}"
    assert delivers(gateway)


def test_without_the_gate_a_bad_version_stays_bad(gateway: System) -> None:
    gateway.run(f"YUKIMI_GATE=off dpkg -i /packages/{BAD}.deb")
    gateway.run("sleep 15")
    assert gateway.version() == f"ii {BAD}"
    assert not delivers(gateway)


def test_what_is_removed_leaves_nothing_running_and_nothing_to_start(gateway: System) -> None:
    gateway.run("systemctl enable --now yukimi-renew.timer")
    gateway.run("dpkg -r yukimi")
    units = "systemctl list-units --all --plain --no-legend 'yukimi*'"
    assert "running" not in gateway.run(units)
    assert "waiting" not in gateway.run(units)
    gateway.run(f"dpkg -i /packages/{OLD}.deb")
    wait(lambda: delivers(gateway))
    assert gateway.run("systemctl is-active yukimi-renew.timer") == "active\n"
    records = "ls /var/lib/yukimi/spool.db /etc/yukimi/gateway.toml"
    before = gateway.run(records)
    gateway.run("dpkg -P yukimi")
    assert gateway.run(records) == before
    left = gateway.run("find /etc/systemd /var/lib -name '*yukimi*'")
    assert left.split() == ["/var/lib/yukimi"]
