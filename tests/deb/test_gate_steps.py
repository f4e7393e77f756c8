"""The power goes at every step of an update, with real dpkg and small packages, on a disk that
loses what was not synced: what is left ends with one version that is whole, the old one where the
new one is no good, and the new one where it is.

The gate is cut at each sync, rename, removal and program that it starts, dpkg at some of its own
and at moments spread over what it does. Each cut comes in two ways: nothing survives but what was
synced; or what the kernel had just committed does, too (names, but not what is in the files). At
the next boot systemd starts the gate if its unit is there. In the controls the gate's syncs are
skipped, or it is not started.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.gate.keep import UNIT
from deb.rootfs import rootfs
from tests.deb.conftest import alone
from tests.deb.cuts import ARM, GATE, NEW, OLD, Machine, each_cut, installed_machine
from tests.deb.systems import need_root

STEPS = ("fsync", "rename", "unlink", "vfork")  # vfork: before each program


@pytest.fixture
def machine(tmp_path: Path, record_property: Callable[[str, object], None]) -> Iterator[Machine]:
    """Give a machine on which the old version is installed, and kept as "old"."""
    need_root()
    with alone("bookworm", Path("/var/lock")):
        base = rootfs("bookworm")
    with Machine(base, tmp_path) as machine:
        installed_machine(machine, tmp_path)
        yield machine
        record_property("cuts", machine.cuts)
    for image in tmp_path.glob("image*"):
        image.unlink()


def arm(machine: Machine, *, trial_s: float | None = None) -> None:
    """Let the old version keep itself, and keep that as "armed"."""
    machine.go_back("old")
    if trial_s is not None:
        settings = machine.root / "etc/default/yukimi"
        settings.write_text(f"UPDATE_TRIAL_S={trial_s}\nUPDATE_SETTLE_S=0.1\n")
    said = machine.run(*ARM)
    assert machine.left() == {"state", "unit", "wanted"}, said
    machine.save("armed")


def update(machine: Machine) -> None:
    """Install the new version, and keep that as "updated"."""
    machine.run(*NEW)
    machine.save("updated")


def judge(machine: Machine, version: str, step: str, *, names_survive: bool = False) -> None:
    """After a boot this version must be there, whole, and nothing of the gate."""
    machine.boot()
    assert machine.ends_with(version), step
    # Two names in two folders cannot go at once; a unit that nothing wants does nothing.
    assert machine.left() <= ({"unit"} if names_survive else set()), step


def test_a_power_cut_while_the_old_version_keeps_itself_changes_nothing(machine: Machine) -> None:
    for step, _ in each_cut(machine, "old", (*STEPS, "symlink"), *ARM):
        machine.boot()
        assert machine.ends_with("1"), step
        assert machine.left() <= {"unit"}, step
        machine.run(*ARM)  # the next update is watched as if nothing had been
        assert machine.left() == {"state", "unit", "wanted"}, step
    assert machine.cuts > 30
    machine.cut_power()
    assert machine.left() == {"state", "unit", "wanted"}  # once it is done, it is
    judge(machine, "1", "at its end")


def test_a_power_cut_during_dpkg_ends_with_the_old_version_whole(machine: Machine) -> None:
    arm(machine)
    begin_s = time.monotonic()
    machine.run(*NEW)
    took_s = time.monotonic() - begin_s
    broken, moments = 0, 8

    def comes_back(step: str, *, names_survive: bool) -> None:
        nonlocal broken
        could_run = machine.is_unpacked("2")
        broken += not (machine.ends_with("1") or machine.ends_with("2"))
        judge(machine, "1", step, names_survive=names_survive)
        # Else nobody has seen what that version does.
        assert could_run or not machine.pin.exists(), step

    for moment in range(moments):
        machine.go_back("armed")
        machine.is_cut_after(took_s * (moment + 0.5) / moments, *NEW)
        comes_back(f"moment {moment}", names_survive=False)
    for step, names_survive in each_cut(machine, "armed", STEPS, *NEW, every=20):
        comes_back(step, names_survive=names_survive)
    assert machine.cuts > 25
    assert broken > machine.cuts // 3  # else nothing was tried: the gate had something to mend


@pytest.mark.parametrize("calls", [STEPS[:1], STEPS[1:]], ids="+".join)
def test_a_power_cut_while_the_old_version_comes_back_only_delays_it(
    machine: Machine, calls: tuple[str, ...]
) -> None:
    arm(machine)
    update(machine)
    for step, names_survive in each_cut(machine, "updated", calls, *GATE):
        judge(machine, "1", step, names_survive=names_survive)
        assert "Pin: version 2\n" in machine.pin.read_text(), step
    assert machine.cuts > 25


def test_a_power_cut_in_dpkg_while_it_brings_the_old_version_back_only_delays_it(
    machine: Machine,
) -> None:
    arm(machine)
    update(machine)
    steps = each_cut(machine, "updated", ("fsync", "rename"), *GATE, every=16, in_children=True)
    for step, names_survive in steps:
        judge(machine, "1", step, names_survive=names_survive)
        assert "Pin: version 2\n" in machine.pin.read_text(), step
    assert machine.cuts > 12


def test_a_power_cut_while_a_good_version_is_on_trial_or_kept_only_delays_it(
    machine: Machine,
) -> None:
    machine.good = ["1", "2"]
    arm(machine, trial_s=60.0)
    update(machine)
    for step, names_survive in each_cut(machine, "updated", STEPS, *GATE):
        judge(machine, "2", step, names_survive=names_survive)
        assert not machine.pin.exists(), step
    assert machine.cuts > 25


# The controls


def fails(machine: Machine, version: str) -> bool:
    """Tell whether after a boot this version is not there, or the gate cannot even run."""
    try:
        machine.boot()
    except AssertionError:
        return True
    return not machine.ends_with(version)


def test_without_the_syncs_of_the_keeping_no_good_version_is_left(machine: Machine) -> None:
    for count in (10, 40, 70):
        machine.go_back("old")
        machine.run(*ARM, skips_syncs=True)
        assert machine.is_cut_at("rename", count, *NEW)
        assert not machine.state.read_text()
        assert fails(machine, "1")
        assert not machine.ends_with("1")
        assert not machine.ends_with("2")


def test_without_the_sync_of_one_file_no_good_version_is_left(machine: Machine) -> None:
    missed = set()
    for number in itertools.count(1):
        machine.go_back("old")
        name = machine.run_without_sync(number, *ARM)
        if not name:
            break
        assert machine.is_cut_at("rename", 40, *NEW)
        if fails(machine, "1"):
            missed.add(name)
    # Names last with the next sync of anything, on ext4; and dpkg-deb syncs what it makes.
    assert missed == {"gate.pyz.new", f"{UNIT}.new", "state.json.new"}


def test_without_the_syncs_of_the_trial_a_bad_version_stays(machine: Machine) -> None:
    arm(machine)
    update(machine)
    cuts = each_cut(machine, "updated", ("rename",), *GATE, skips_syncs=True)
    assert any(fails(machine, "1") and machine.ends_with("2") for _ in cuts)


def test_without_the_gate_what_dpkg_left_in_the_middle_stays(machine: Machine) -> None:
    arm(machine)
    assert machine.is_cut_at("rename", 40, *NEW)
    assert not machine.ends_with("1")
    assert not machine.ends_with("2")


def test_without_the_gate_a_bad_version_stays(machine: Machine) -> None:
    machine.run(*NEW)
    machine.boot()
    assert machine.ends_with("2")


# Without a cut


def test_without_the_documentation_that_dpkg_leaves_out_it_keeps_itself_too(
    machine: Machine,
) -> None:
    shutil.rmtree(machine.root / "usr/share/doc/yukimi", ignore_errors=True)
    lean = machine.root / "etc/dpkg/dpkg.cfg.d/lean"
    lean.write_text("path-exclude=/usr/share/doc/*\n")
    machine.run(*OLD)
    assert not (machine.root / "usr/share/doc/yukimi").exists()
    machine.run(*ARM)
    assert machine.state.exists()
    machine.run(*NEW)
    judge(machine, "1", "lean")


def test_a_version_is_not_refused_if_the_old_one_does_no_more(machine: Machine) -> None:
    machine.run(*ARM)
    machine.run(*NEW)
    machine.silence()  # and from now on nobody answers, old or new
    judge(machine, "1", "silent")
    assert not machine.pin.exists()


def test_what_is_removed_while_it_is_on_trial_stays_removed(machine: Machine) -> None:
    arm(machine, trial_s=3.0)
    machine.run(*NEW)
    gate = subprocess.Popen(["chroot", str(machine.root), *GATE], stderr=subprocess.DEVNULL)
    machine.run("dpkg", "-r", "yukimi")
    assert gate.wait() == 0
    assert not (machine.root / "opt/yukimi").exists()
    assert not machine.left()
