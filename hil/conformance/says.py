"""What every driver promises of what it says: true values in known units, and nobody's steps."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import get_type_hints

import pytest

from drivers.base import Alive, Crossing, Glimpse, Quantity, Trouble, Withheld

from .lawful import broken, expect
from .trial import SEED, Poll, Subject, Trial

HEALTHY_POLLS = 30
COMPLAINT_POLLS = 120
AFTER_COMPLAINT_POLLS = 5
PEOPLE_S = 240.0  # enough persons come in it
ALIVE_S = 60.0
WARMUP_TRIED_S = (10.0, 60.0)
ERROR_TEXTS_MOST = 12

# How a name ends, where that is not the unit's code in lower case.
ENDINGS = {"Cel": "c", "%": "percent", "1": "", "Ohm": "ohm", "[ppm]": "ppm", "[degF]": "f"}
_ATOM = (
    r"(?:1|%|\[ppm\]|\[degF\]|min|h|d"
    r"|(?:da|[yzafpnumcdhkMGTPEZY])?"
    r"(?:m|g|s|A|K|mol|cd|Pa|V|W|J|N|Hz|Ohm|S|C|F|T|lm|lx|bar|Cel|deg|rad|L|l|t|B|Bq|eq))"
)
_UCUM = re.compile(rf"{_ATOM}-?[1-9]?(?:[./]{_ATOM}-?[1-9]?)*")


def test_a_healthy_device_is_measured(subject: Subject) -> None:
    """Every quantity, within the truth, and no error."""
    trial = Trial(subject)
    trial.measure(
        f"a healthy device is not measured within measures_after_s = "
        f"{subject.emulation.measures_after_s:g} s and some polls"
    )
    polls = trial.run(2 * max(1.0, trial.driver.interval_s), at_least=HEALTHY_POLLS)
    errors = [poll for poll in polls if poll.error is not None]
    expect(not errors, f"{len(errors)} of {len(polls)} polls of a healthy device: {errors[:1]}")
    named = {seen.quantity for poll in polls for seen in poll.readings}
    missing = sorted(set(trial.driver.quantities) - named)
    expect(not missing, f"`quantities` names {missing}, and no poll reports them")
    valued = {name for poll in polls for name in poll.values}
    lost = sorted(set(subject.emulation.truth) - valued)
    expect(not lost, f"a healthy device says {lost}, and they have no value: {polls[-1]}")
    if not subject.is_people and subject.spec.kind != "position":
        untold = sorted(set(trial.driver.quantities) - set(subject.emulation.truth) - valued)
        expect(not untold, f"{untold} never have a value, and EMULATION.truth leaves them out")


def test_what_the_device_says_in_place_of_a_value_is_no_value(subject: Subject) -> None:
    """In-band errors: no value and the reason, until the device measures again."""
    if not subject.emulation.complaints:
        pytest.skip("EMULATION.complaints is empty: the device never says an error in-band")
    for name, complaint in subject.emulation.complaints.items():
        trial = Trial(subject)
        trial.measure()
        trial.poll()
        complaint.make(trial.device)
        trial.is_healthy = subject.spec.bus != "serial"  # what was sent before may be on its way
        polls = [trial.poll()]
        while complaint.reason not in polls[-1].reasons:
            expect(
                len(polls) < COMPLAINT_POLLS,
                f'the device says "{name}", and no reading has the reason "{complaint.reason}" in '
                f"{len(polls)} polls; last: {polls[-1]}",
            )
            polls.append(trial.poll())
        concerned = _concerned(polls[-1], complaint.reason)
        for poll in trial.run(0.0, at_least=AFTER_COMPLAINT_POLLS):
            wrong = sorted(concerned & set(poll.values))
            expect(
                not wrong,
                f'the device says "{name}", and it was read as {[poll.values[q] for q in wrong]} '
                f"of {wrong}: an error code is never a value",
            )
            expect(
                complaint.reason in poll.reasons or not poll.observations,
                f'the device still says "{name}", and the reason "{complaint.reason}" is gone: '
                f"{poll}",
            )
        trial.power_cycle()
        trial.is_healthy = False
        trial.poll()
        trial.is_healthy = True
        trial.until(
            lambda poll, concerned=concerned: concerned <= set(poll.values) and poll.measures,  # type: ignore[misc]
            subject.budget_s,
            f'after "{name}" a healthy device is not measured any more',
        )


def _concerned(poll: Poll, reason: str) -> set[str]:
    return {
        seen.quantity for seen in poll.readings if reason in seen.reasons and seen.value is None
    }


def test_while_it_warms_up_there_is_no_value(subject: Subject) -> None:
    """From opening until the device may be believed: the reason "warmup", and nothing else."""
    if not subject.has_option("warmup_s"):
        pytest.skip("no option warmup_s: it may be believed at once")
    warmup_s = float(getattr(subject.options(), "warmup_s", 0.0))
    options = subject.options()
    for tried_s in WARMUP_TRIED_S:
        if warmup_s:
            break
        try:
            options, warmup_s = subject.options(warmup_s=tried_s), tried_s
        except ValueError:
            continue  # out of the option's bounds
    trial = Trial(subject, options)
    polls = trial.run(max(0.0, warmup_s - 0.5 - trial.driver.interval_s))
    for poll in polls:
        early = [seen for seen in poll.observations if isinstance(seen, (Alive, Crossing))]
        expect(
            not poll.values and not early,
            f"{poll.at_s - polls[0].at_s:.1f} s after opening, {warmup_s:g} s before it may be "
            f"believed, it says {poll}",
        )
    expect(
        any("warmup" in poll.reasons for poll in polls),
        f'{warmup_s:g} s of warm-up and no Trouble("warmup") or reading with that reason: nobody '
        f"knows why there is no value; first: {polls[0]}",
    )
    trial.until(lambda poll: poll.measures, warmup_s + subject.budget_s, "it never gets warm")


def test_every_unit_is_known_and_ends_the_name(subject: Subject) -> None:
    """`surface_temperature_c` in Cel: who reads a record needs no table."""
    quantities = dict(Trial(subject).driver.quantities)
    quantities |= {quantity.name: quantity for quantity in subject.spec.quantities}
    for name, quantity in quantities.items():
        expect(name == quantity.name, f"`quantities` calls {quantity.name} {name}")
        expect(
            re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name),
            f"{name}: a name is lower case words and underscores",
        )
        expect(quantity.means.strip(), f"{name}: Quantity.means is empty")
        expect(
            _UCUM.fullmatch(quantity.unit),
            f'{name}: "{quantity.unit}" is no UCUM code known here; "Cel", "%", "m/s", "1" are',
        )
        _expect_ending(quantity)


def _expect_ending(quantity: Quantity) -> None:
    ending = ENDINGS.get(quantity.unit)
    if ending is None:
        ending = re.sub(r"[./]", "_", quantity.unit).lower().replace("%", "percent")
    expect(
        quantity.name.endswith("_" + ending) if ending else True,
        f'{quantity.name} is in "{quantity.unit}", so its name ends in "_{ending}"',
    )
    if not ending:
        wrong = re.search(r"_(c|cm|mm|m|percent|hpa|pa|v|a|w|m_s|deg|s)$", quantity.name)
        expect(
            not wrong, f'{quantity.name} ends like a unit, and its unit is "1": a ratio or a code'
        )


def _people(subject: Subject) -> None:
    if not subject.is_people:
        pytest.skip("it sees nobody")


def test_people_are_crossings_that_cannot_be_told(subject: Subject) -> None:
    """Somebody crosses in the emulation: a crossing leaves, and nothing is said of it."""
    _people(subject)
    trial = Trial(subject)
    trial.measure()
    identity = trial.driver.identity
    polls = trial.run(PEOPLE_S)
    crossings = [s for poll in polls for s in poll.observations if isinstance(s, Crossing)]
    expect(crossings, f"people walked through for {PEOPLE_S:g} s and nobody was counted")
    expect(
        trial.driver.identity == identity,
        "`identity` changed while people walked through, and it is logged: it says what the "
        "device is, at open()",
    )
    expect(
        not trial.printed,
        "the driver printed or logged something while people walked through: a people sensor "
        f"says nothing but its observations ({len(trial.printed)} characters, withheld)",
    )


def test_a_people_driver_is_held_to_it_by_its_types(subject: Subject) -> None:
    """What leaves is declared as glimpses, and what it holds of persons cannot leave with it."""
    _people(subject)
    for way in ("poll", "feed") if subject.is_serial else ("poll",):
        try:
            declared = get_type_hints(getattr(subject.driver, way)).get("return")
        except NameError as exc:
            broken(f"the types of {way}() cannot be looked up: {exc}")
        expect(
            declared == Sequence[Glimpse],
            f"{way}() of a people sensor returns Sequence[Glimpse] (drivers.base): declare it so, "
            "and a type checker finds what else leaves it",
        )
    expect(
        isinstance(Trial(subject).driver, Withheld),
        "the driver holds what it saw last: let its class be a drivers.base.Withheld, so that it "
        "is never printed or serialised with it; its own classes for frames and tracks, too",
    )


def test_alive_does_not_depend_on_persons(subject: Subject) -> None:
    """One sign of life for each second that is polled in, whoever passes."""
    _people(subject)
    alive = []
    for seed in (SEED, SEED + 1):
        trial = Trial(subject, seed=seed)
        polls = trial.until(
            lambda poll: any(isinstance(seen, Alive) for seen in poll.observations),
            subject.budget_s,
            "a people sensor that works says Alive once a second",
        )
        polls = trial.run(ALIVE_S)
        seconds = [
            s.at_boot_ns // 10**9 for p in polls for s in p.observations if isinstance(s, Alive)
        ]
        expect(len(seconds) == len(set(seconds)), "Alive more than once in a second of the clock")
        polled = {int(poll.at_s) for poll in polls}
        expect(
            len(polled) - 2 <= len(seconds) <= len(polled) + 2,
            f"{len(seconds)} times Alive in {len(polled)} seconds that were polled in: once each, "
            "and no more than that, whether persons pass or not",
        )
        alive.append(len(seconds))
    expect(
        abs(alive[0] - alive[1]) <= 1,
        f"{alive[0]} times Alive with one crowd, {alive[1]} with another: a sign of life tells "
        "nothing of persons",
    )


def test_no_error_text_tells_what_was_seen(subject: Subject) -> None:
    """Damaged pictures of many persons: the errors' texts are few, and say nothing of them."""
    _people(subject)
    dice = Random(SEED)
    texts: set[str] = set()
    trial = Trial(subject)
    trial.measure()
    trial.is_healthy = False
    for _ in range(200):
        trial.tap.tamper = lambda said: bytes(
            byte ^ dice.randrange(256) if dice.random() < 0.2 else byte for byte in said
        )
        poll = trial.poll()
        trial.tap.tamper = None
        trial.poll()
        if poll.error is not None:
            texts.add(str(poll.error))
    expect(
        len(texts) <= ERROR_TEXTS_MOST,
        f"{len(texts)} different error texts for damaged pictures of persons: a text that changes "
        "with the picture carries it into the log; say what kind of damage it was, no more",
    )
    polls = trial.run(0.0, at_least=5)
    told = [seen for poll in polls for seen in poll.observations if isinstance(seen, Trouble)]
    expect(
        all(seen.reason == "warmup" or seen.reason.endswith("error") for seen in told),
        f"{told[:1]} after damaged pictures: they are errors of the bus, or of frames",
    )
    expect(not trial.printed, "the driver printed or logged something about a damaged picture")
