"""The power goes at each step of an update, and of a change of the configuration.

Each is done once, and its moments are taken (moments.py). Then, for one moment after the other, the
machine boots from what its disk was: one good version, or one good configuration, must run and
deliver, with everything that was measured. In the controls it must not: there the gate's unit is
masked, and a configuration on trial is not marked as such.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from .installed import APT, GATE, SLOW_S, UPDATES_S, Installed
from .machine import WAIT_S
from .moments import Cut, Recorder, return_to, spread
from .packages import BAD, GOOD
from .qmp import MachineError
from .site import CONFIG
from .steps import must, without_panic

TRIAL_S, SETTLE_S = 8.0, 2.0  # nothing makes the bad one well
WITHIN_S = 20  # for a configuration
DOOMED_S = 30  # for so long one that is lost delivers nothing
SURVIVING = (0.0, 0.5)  # chances of what was not flushed, in turn
NEW, WRONG = "/root/new.toml", "/root/wrong.toml"
BY_HAND = ", after dpkg --configure -a"
NOWHERE = "mqtt://10.0.2.2:1"
TELLING = "DevicePolicy=auto\nDeviceAllow="  # the witness's port is no device of a gateway's


@dataclass(frozen=True, slots=True)
class Story:
    """Something whose power goes: how it is done, and what must run afterwards."""

    name: str
    tellers: tuple[str, ...]  # the programs whose steps are told
    command: str
    is_over: str  # a command that succeeds then
    check: Callable[[Installed], str]  # what runs; raises MachineError if it must not


def check_version(field: Installed, allowed: Sequence[str]) -> str:
    """One of these versions must be there, whole, and nothing left of the trial."""
    version, goes_on = field.version(), ""
    if version.startswith("iF "):  # dpkg was interrupted before the gate was armed
        field.pi.run("dpkg --configure -a")
        version, goes_on = field.version(), BY_HAND
    must(version in [f"ii {each}" for each in allowed], f"{version!r} is installed")
    # Documentation is left out on this machine.
    changed = field.pi.run("dpkg --verify yukimi | grep -v ' /usr/share/'", check=False).out
    must(not changed, f"not as in the package:\n{changed}")
    left = field.pi.run("find /etc/systemd -name '*update-gate*'").out
    must(bool(goes_on) or not left, f"the gate is not gone: {left}")
    return version.removeprefix("ii ") + goes_on


def check_config(field: Installed, allowed: Sequence[str]) -> str:
    """One of these configurations must run, and none be on trial any more."""
    said = field.pi.run("yukimi config list --json", check=False).out
    outcomes = [each["outcome"] for each in json.loads(said)["entries"]]
    must("trial" not in outcomes, f"one is on trial still: {said}")
    owner = running_owner(field)
    must(owner in allowed, f"{owner} runs, of {allowed}")
    return owner


def running_owner(field: Installed) -> str:
    """Return who owns the gateway by the configuration that runs, as its birth says."""
    status = f"yukimi/v1/{field.site.gateway}/status"
    births = [
        message.document
        for message in list(field.site.heard)
        if message.topic == status and message.document["state"] == "online"
    ]
    return str(births[-1].get("owner"))


STORIES = {
    each.name: each
    for each in (
        Story(
            "bad update",
            ("keep", "gate"),
            f"{APT} /packages/bad.deb",
            f"grep -q 'rolled back' {GATE}/outcome.json",
            lambda field: check_version(field, [field.old]),
        ),
        Story(
            "good update",
            ("gate",),  # the rest is as before
            f"{APT} /packages/good.deb",
            f"grep -q 'outcome.: .kept' {GATE}/outcome.json",
            lambda field: check_version(field, [field.old, GOOD]),
        ),
        Story(
            "good configuration",
            ("gateway",),
            f"yukimi config apply {NEW} --within {WITHIN_S}",
            "journalctl -b -u yukimi | grep -q 'configuration confirmed'",
            lambda field: check_config(field, ["before", "after"]),
        ),
        Story(
            "wrong configuration",
            ("gateway",),
            f"yukimi config apply {WRONG} --within {WITHIN_S}",
            "journalctl -b -u yukimi | grep -q 'configuration returned'",
            lambda field: check_config(field, ["before"]),
        ),
    )
}


def cut_at_steps(
    field: Installed, story: Story, count: int | None, *, until: str | None = None, seed: int = 0
) -> dict[str, str]:
    """Do it once, then cut at so many of its moments, all without a count; return what then ran.

    With `until` it is done up to the step whose name begins so, and cut there only.
    """
    cuts = without_panic(lambda: record(field, story, until=until))
    chosen = cuts[-1:] if until is not None else spread(cuts, count)
    field.say(f"{story.name}: {len(cuts)} moments, {sum(cut.is_step for cut in cuts)} of them told")
    dice = random.Random(seed)
    came: dict[str, str] = {}
    for number, cut in enumerate(chosen):
        survives = SURVIVING[number % len(SURVIVING)] if count is None else dice.choice(SURVIVING)
        came[cut.step] = without_panic(partial(boots_after, field, story, cut, survives))
        field.say(f"{story.name}: {cut.step}: then {came[cut.step]}")
    return came


def record(field: Installed, story: Story, *, until: str | None = None) -> list[Cut]:
    """Do it with the machine as it was when installed; return its moments."""
    field.returns()
    field.trial(TRIAL_S, SETTLE_S)
    write_configurations(field)
    field.plant(limits=[TELLING], tell=story.tellers)
    field.pi.run("chmod 666 $(readlink -f /dev/virtio-ports/vpi.witness)")
    field.restart()
    with Recorder(field.pi, field.site, until=until) as recorder:
        field.pi.run(f"systemd-run -q sh -c '{story.command}'")
        if until is not None:
            must(recorder.reached.wait(WAIT_S), f"{until} was never told")
            return recorder.cuts
        is_over = f"{story.is_over} && test ! -e {GATE}/state.json"
        field.pi.wait(is_over, "it never ends", poll_s=SLOW_S, within_s=UPDATES_S)
        story.check(field)
        field.wait_delivers()
    must(bool(recorder.cuts), "no step was told")
    return recorder.cuts


def boots_after(field: Installed, story: Story, cut: Cut, survives: float) -> str:
    """Let the machine boot as after a cut at that moment; return what runs. Raises MachineError."""
    return_to(field.pi, field.site, cut, survives)
    before = field.site.runs()
    field.pi.start()
    try:
        field.pi.wait(
            f"test ! -e {GATE}/state.json", "undecided", poll_s=SLOW_S, within_s=UPDATES_S
        )
        field.wait_delivers(beyond=before)
        runs = story.check(field)
        must(BY_HAND not in runs or cut.step.startswith("keep: "), f"{runs}: the gate's to do")
        must(field.config_hash() == field.config, "the configuration file is another")
        field.closes()
    except MachineError as exc:
        raise MachineError(f"{story.name}, cut at {cut.step!r}: {exc}") from exc
    return runs


def control_update(field: Installed) -> None:
    """Without its gate a bad version must stay, and be noticed."""
    field.returns()
    field.trial(600.0, SETTLE_S)
    field.pi.run(f"{APT} /packages/bad.deb")
    field.pi.wait(
        "journalctl -b -u yukimi-update-gate | grep -q 'on trial'", "no trial", poll_s=SLOW_S
    )
    runs = field.site.runs()
    field.pi.cut()
    field.pi.start(options="systemd.mask=yukimi-update-gate.service")
    must_not_deliver(field, runs)
    must(field.version() == f"ii {BAD}", f"without its gate, {field.version()}")


def control_config(field: Installed) -> None:
    """Without the mark of a trial a wrong configuration must stay, and be noticed."""
    field.returns()
    write_configurations(field)
    field.plant(unmarked=True)
    field.restart()
    field.pi.run(f"systemd-run -q yukimi config apply {WRONG} --within 600")
    begun = "test $(journalctl -b -u yukimi | grep -c event=started) -ge 3"
    field.pi.wait(begun, "no trial", poll_s=SLOW_S)
    runs = field.site.runs()
    field.pi.cut()
    field.pi.start()
    must_not_deliver(field, runs)


def must_not_deliver(field: Installed, before: set[str]) -> None:
    """Wait for a while after its service was started; nothing may have come of it."""
    began = "journalctl -b -u yukimi | grep -q 'Starting yukimi'"
    field.pi.wait(began, "it was never started", poll_s=SLOW_S)
    time.sleep(DOOMED_S)
    must(field.site.runs() <= before, "it delivers, and should not: nothing is shown by this")


def write_configurations(field: Installed) -> None:
    """Write a good other configuration, and one whose broker is nowhere."""
    field.pi.run(f'sed \'s/owner = "before"/owner = "after"/\' {CONFIG} > {NEW}')
    field.pi.run(f"sed 's,{field.site.broker_url},{NOWHERE},' {NEW} > {WRONG}")
