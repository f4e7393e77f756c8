"""The ledger: a chain that shows every change, bounded, and an audit that names what broke."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.clock import Stamp
from agent.privacy import book, ledger
from agent.privacy.audit import Finding, audit
from agent.privacy.book import Book
from agent.privacy.ledger import Claim, Terms
from agent.privacy.policy import Policy
from agent.spoolfile import LEDGER

S = 1_000_000_000
WINDOW_NS = 900 * S
NOON_NS = 1_800_057_600 * S + 12 * 3600 * S  # UTC
TERMS = Terms(Policy(900, Fraction(1, 4)), "Asia/Tokyo", "1.2.3")
SENSORS = ("door-1", "door-2")

Rows = list[tuple[int, str]]


def claim(sensor: str = "door-1", window: int = 0, **other: Any) -> Claim:
    start_ns = NOON_NS + window * WINDOW_NS
    boot_ns = window * WINDOW_NS
    usual = Claim(
        sensor,
        start_ns,
        start_ns + WINDOW_NS,
        boot_ns,
        boot_ns + WINDOW_NS,
        Stamp("synced", 0.02),
        "1/4",
        ("towards", "away"),
        900,
    )
    return replace(usual, **other)


def values(figure: int = 12) -> dict[str, Any]:
    return {"towards": {"count": figure, "unclamped": figure}, "noise_sd": 5.64}


def body(sensor: str, seq: int, said: dict[str, Any], *reasons: str) -> str:
    quality = {"flag": "good", "n": 900, "expected": 900, "reasons": list(reasons)}
    return json.dumps({"stream": sensor, "seq": seq, "quality": quality, "values": said})


class Ledger:
    """A ledger in memory, and the records that go with it."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute(LEDGER)
        self.bodies: list[tuple[str, str]] = []
        self.seq = 0
        self.live("run-1")

    def live(self, run: str, terms: Terms = TERMS, boot: str = "boot-1") -> Book:
        self.run, self.seq = run, 0
        self.book = Book(self.db, terms, boot, run)
        self.book.begin(NOON_NS)
        return self.book

    def release(self, sensor: str = "door-1", window: int = 0, **other: Any) -> Claim:
        (reserved,) = self.book.reserve([claim(sensor, window, **other)])
        self.settle(reserved)
        return reserved

    def settle(self, reserved: Claim, said: dict[str, Any] | None = None) -> None:
        self.seq += 1
        said = said or values(self.seq)
        self.book.settle(reserved, self.seq, said)
        self.bodies.append((self.run, body(reserved.sensor, self.seq, said)))

    def burn(self, reserved: Claim) -> None:
        self.seq += 1
        self.book.settle(reserved, self.seq, None)
        said = {"towards": None, "noise_sd": 5.64}
        self.bodies.append((self.run, body(reserved.sensor, self.seq, said, "burned")))

    def rows(self) -> Rows:
        return self.book.rows()

    def audit(self) -> Finding:
        return audit(self.rows(), self.bodies)


@pytest.fixture
def kept() -> Ledger:
    return Ledger()


def day(kept: Ledger, begin: int, sensors: tuple[str, ...] = SENSORS) -> None:
    """Let a day of windows pass."""
    for window in range(begin, begin + 96):
        reserved = kept.book.reserve([claim(sensor, window) for sensor in sensors])
        for each in reserved:
            kept.settle(each)


# An honest ledger


def test_an_honest_ledger_holds_and_says_what_it_cost(kept: Ledger) -> None:
    for window in range(3):
        for sensor in SENSORS:
            kept.release(sensor, window)
    (reserved,) = kept.book.reserve([claim("door-1", 3)])
    kept.burn(reserved)
    kept.book.reserve([claim("door-2", 3)])
    finding = kept.audit()
    assert finding.broken == ""
    assert (finding.reserved, finding.released, finding.burned, finding.waiting) == (8, 6, 1, 1)
    assert (finding.epsilon, finding.records) == ("1/4", 7)
    assert finding.policy == TERMS.policy.sha256


def test_a_line_follows_the_one_before_it_by_its_hash(kept: Ledger) -> None:
    kept.release()
    rows = kept.rows()
    assert json.loads(rows[0][1])["prev"] == "0" * 64
    for (_, before), (n, text) in pairwise(rows):
        assert json.loads(text)["prev"] == ledger.sha256(before)
        assert json.loads(text)["n"] == n


def test_no_line_says_more_of_people_than_the_hash_of_what_was_released(kept: Ledger) -> None:
    (reserved,) = kept.book.reserve([claim()])
    before = kept.rows()
    kept.settle(reserved, values(731))
    assert "731" not in "".join(text for _, text in before)
    (line,) = kept.rows()[len(before) :]
    assert set(json.loads(line[1])) == {
        *("n", "prev", "at", "line", "policy", "reserve", "sensor", "stream", "boot"),
        *("start_boot_ns", "run", "seq", "figures"),
    }


def test_the_next_life_finds_what_was_not_settled(kept: Ledger) -> None:
    kept.release("door-1", 0)
    wanted = kept.book.reserve([claim("door-1", 1), claim("door-2", 1)])
    later = kept.live("run-2")
    assert later.unsettled() == wanted
    for each in wanted:
        kept.burn(each)
    assert later.unsettled() == []
    assert kept.audit().broken == ""


def test_a_policy_is_said_when_it_changes_and_at_no_other_time(kept: Ledger) -> None:
    kept.live("run-2")
    stricter = TERMS._replace(policy=Policy(900, Fraction(1, 8)))
    kept.live("run-3", stricter)
    kept.release(epsilon="1/8")
    said = [json.loads(text) for _, text in kept.rows()]
    assert [line["line"] for line in said][:5] == ["policy", "boot", "boot", "policy", "boot"]
    assert [line["policy"] for line in said[:2]] == [TERMS.policy.sha256] * 2
    assert said[3]["terms"] == {
        "flow": {"window_s": 900, "epsilon": "1/8"}, "day_limit": "3/8",
    }  # fmt: skip
    assert kept.audit().broken == ""


def test_damage_to_the_file_is_told_and_is_no_break(kept: Ledger) -> None:
    kept.book.begin(NOON_NS, "is of version 99")
    finding = kept.audit()
    assert finding.broken == ""
    assert finding.damages == ["2027-01-16T12:00:00.000Z: is of version 99"]


# Bounds


def test_old_days_become_a_line_each_and_all_that_they_released_stays_known(
    kept: Ledger,
) -> None:
    for number in range(5):
        day(kept, 96 * number)
    finding = kept.audit()
    assert finding.broken == ""
    assert finding.released == len(kept.bodies) == finding.records == 5 * 96 * 2
    assert finding.days >= 3
    assert len(kept.rows()) < 2 * 2 * 2 * 96 + 20


def test_a_gateway_that_is_switched_off_each_night_closes_its_days_too(kept: Ledger) -> None:
    for number in range(6):
        kept.book = Book(kept.db, TERMS, f"boot-{number}", f"run-{number}")
        kept.run, kept.seq = f"run-{number}", 0
        kept.book.open(NOON_NS + 96 * number * WINDOW_NS)
        for window in range(96 * number, 96 * number + 20):
            kept.release("door-1", window)
    finding = kept.audit()
    assert finding.broken == ""
    assert (finding.days, finding.released) == (4, 120)


def test_lives_in_which_nobody_is_counted_do_not_fill_the_spool(kept: Ledger) -> None:
    for number in range(300):
        book = Book(kept.db, TERMS, "boot-1", f"life-{number}")
        book.open(NOON_NS + number * 3600 * S)
    finding = kept.audit()
    assert (finding.broken, finding.days) == ("", 12)  # one a day
    assert len(kept.rows()) < 2 * 24 + finding.days


def test_a_new_policy_is_said_before_its_first_line_though_a_day_is_closed_there(
    kept: Ledger,
) -> None:
    for number in range(3):
        day(kept, 96 * number, ("door-1",))
    stricter = TERMS._replace(policy=Policy(900, Fraction(1, 8)))
    kept.book = Book(kept.db, stricter, "boot-2", "run-2")  # and its beginning found no disk
    kept.run, kept.seq = "run-2", 0
    kept.release("door-1", 500, epsilon="1/8")
    finding = kept.audit()
    assert (finding.broken, finding.policy) == ("", stricter.policy.sha256)


def test_a_ledger_of_ten_years_is_small(kept: Ledger) -> None:
    for number in range(20):
        day(kept, 96 * number, ("door-1",))
    sizes = [len(text) for _, text in kept.rows() if '"line":"day"' in text]
    assert len(sizes) >= 18
    assert 3653 * max(sizes) < 3 * 2**20


def test_a_day_begins_at_three_in_the_morning() -> None:
    midnight_ns = 1_800_057_600 * S - 9 * 3600 * S  # in Sapporo, 2027-01-16
    assert TERMS.day_of(midnight_ns + 3 * 3600 * S) == "2027-01-16"
    assert TERMS.day_of(midnight_ns + 3 * 3600 * S - 1) == "2027-01-15"


def test_a_clock_that_goes_mad_leaves_a_ledger_that_holds(kept: Ledger) -> None:
    years_ns = 3600 * 24 * 365 * S
    for window, off in enumerate((0, -50, 0, 13, 0, 0, -50, -50, 13, 0)):
        at_ns = NOON_NS + off * years_ns + window * WINDOW_NS
        kept.release("door-1", window, start_ns=at_ns, end_ns=at_ns + WINDOW_NS)
        kept.release("door-2", window, start_ns=at_ns, end_ns=at_ns + WINDOW_NS)
    finding = kept.audit()
    assert finding.broken == ""
    assert finding.released == 20


def test_lines_that_make_no_sense_never_stop_the_next_release(kept: Ledger) -> None:
    day(kept, 0)
    kept.db.execute("UPDATE ledger SET body = 'x' WHERE n = 7")
    kept.db.execute("DELETE FROM ledger WHERE n IN (20, 21)")
    for number in range(1, 5):
        day(kept, 96 * number)
    assert kept.audit().line == 7


# One byte of a line, as a worn card may give it back; each is one bit away.
FLIPS = (
    ("reserve", '"sensor"', '"sefsor"'),
    ("reserve", '"stream"', '"qtream"'),
    ("reserve", '"start_boot_ns":', '"start_boot_ns"z'),
    ("release", '"seq"', '"sep"'),
    ("release", '"run"', '"rwn"'),
    ("policy", '"terms"', '"tersm"'),
)


@pytest.mark.parametrize(("kind", "was", "becomes"), FLIPS)
def test_a_flipped_bit_never_stops_what_reads_the_ledger(
    kept: Ledger, kind: str, was: str, becomes: str
) -> None:
    (waits,) = kept.book.reserve([claim("door-2", 0)])
    kept.burn(waits)
    day(kept, 0, ("door-1",))
    kept.db.execute(
        "UPDATE ledger SET body = replace(body, ?, ?)"
        " WHERE n = (SELECT min(n) FROM ledger WHERE line = ?)",
        (was, becomes, kind),
    )
    for number in range(1, 4):
        day(kept, 96 * number, ("door-1",))
    kept.book.adopt([])
    assert kept.live("run-2").unsettled() == []
    assert kept.audit().broken


OPEN_FLIPS = (
    ('"1/4"', '"1/0"'),  # no noise can be told of
    ('"1/4"', '"0/4"'),
    ('"start":"2027', '"start":"6027'),  # no integer of a database holds it
    ('"synced"', '"synbed"'),
    ('"towards","', '"towards",3,"'),
    ('"expected"', '"eypected"'),
    ('["towards"', '[["towards"]'),
)


@pytest.mark.parametrize(("was", "becomes"), OPEN_FLIPS)
def test_a_reservation_that_makes_no_sense_hides_no_other_one(
    kept: Ledger, was: str, becomes: str
) -> None:
    _, second = kept.book.reserve([claim("door-1"), claim("door-2")])
    kept.db.execute(
        "UPDATE ledger SET body = replace(body, ?, ?) WHERE n = ?", (was, becomes, second.line - 1)
    )
    assert kept.live("run-2").unsettled() == [second]
    assert kept.audit().broken


def test_a_small_room_closes_a_day_before_it_is_over(kept: Ledger) -> None:
    kept.book = Book(kept.db, TERMS, "boot-1", "run-1", room_bytes=30_000)
    most = 0
    for number in range(3):
        day(kept, 96 * number)
        most = max(most, sum(len(text) for _, text in kept.rows() if '"line":"day"' not in text))
    finding = kept.audit()
    assert finding.broken == ""
    assert finding.released == 3 * 96 * 2
    assert most < 30_000


def test_no_day_is_closed_over_a_window_that_is_still_open(kept: Ledger) -> None:
    (waits,) = kept.book.reserve([claim("door-2")])
    for number in range(3):
        day(kept, 96 * number, ("door-1",))
    later = kept.live("run-2")
    assert later.unsettled() == [waits]
    kept.burn(waits)
    assert kept.audit().broken == ""


@given(cut=st.integers(1, 60))
@settings(max_examples=10)
def test_days_are_closed_in_parts_where_they_are_long(cut: int) -> None:
    kept = Ledger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book, "CLOSE_ROWS", cut)
        for number in range(4):
            day(kept, 96 * number, ("door-1",))
    assert kept.audit().broken == ""


# What an audit must find


def whole() -> Ledger:
    kept = Ledger()
    for number in range(4):
        day(kept, 96 * number, ("door-1",))
    (reserved,) = kept.book.reserve([claim("door-2", 400)])
    kept.burn(reserved)
    return kept


WHOLE = whole()


@given(st.data())
@settings(max_examples=150)
def test_no_byte_of_any_line_can_be_changed(data: st.DataObject) -> None:
    rows = WHOLE.rows()
    at = data.draw(st.integers(0, len(rows) - 2))  # the last one nobody vouches for yet
    n, text = rows[at]
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda each: each != text[place]))
    rows[at] = (n, text[:place] + other + text[place + 1 :])
    finding = audit(rows, WHOLE.bodies)
    assert finding.broken
    assert finding.line is not None


@given(st.data())
@settings(max_examples=100)
def test_no_line_can_be_taken_out_doubled_or_moved(data: st.DataObject) -> None:
    rows = WHOLE.rows()
    at = data.draw(st.integers(0, len(rows) - 2))
    match data.draw(st.sampled_from(["out", "doubled", "moved"])):
        case "out":
            del rows[at]
        case "doubled":
            rows.insert(at, rows[at])
        case "moved":
            rows[at], rows[at + 1] = (rows[at][0], rows[at + 1][1]), (rows[at + 1][0], rows[at][1])
    assert audit(rows, WHOLE.bodies).broken


def test_the_end_of_the_ledger_cannot_be_cut_off_while_its_records_are_there() -> None:
    rows = WHOLE.rows()
    assert audit(rows, WHOLE.bodies).broken == ""
    last_release = max(n for n, text in rows if '"line":"release"' in text)
    assert audit([row for row in rows if row[0] < last_release], WHOLE.bodies).broken


def twice_settled(kept: Ledger) -> None:
    reserved = kept.release()
    kept.settle(reserved, values(99))


def twice_reserved(kept: Ledger) -> None:
    kept.release()
    kept.release()


def overlapping(kept: Ledger) -> None:
    kept.release(window=1)
    kept.release(window=1, start_boot_ns=WINDOW_NS + 1, end_boot_ns=2 * WINDOW_NS)


def unreserved(kept: Ledger) -> None:
    kept.settle(replace(claim(), boot_id="boot-1", run="run-1", line=77))


def dearer(kept: Ledger) -> None:
    kept.release(epsilon="1")


def burned_and_released(kept: Ledger) -> None:
    (reserved,) = kept.book.reserve([claim()])
    kept.burn(reserved)
    kept.settle(reserved)


def one_record_for_two(kept: Ledger) -> None:
    kept.release(window=0)
    kept.seq -= 1
    kept.release(window=1)


def record_without_line(kept: Ledger) -> None:
    kept.release()
    kept.bodies.append(("run-1", body("door-1", 2, values())))


def record_of_another_run(kept: Ledger) -> None:
    kept.release()
    kept.bodies = [("run-9", text) for _, text in kept.bodies]


def other_figures(kept: Ledger) -> None:
    kept.release()
    kept.bodies = [("run-1", body("door-1", 1, values(13)))]


def burned_without_line(kept: Ledger) -> None:
    said = {"towards": None, "noise_sd": 5.64}
    kept.bodies.append(("run-1", body("door-1", 1, said, "burned")))


def unclamped_without_line(kept: Ledger) -> None:
    kept.bodies.append(("run-1", body("door-1", 1, {"towards": {"unclamped": 7}})))


def plain_figure_without_line(kept: Ledger) -> None:
    kept.bodies.append(("run-1", body("door-1", 1, {"towards": 7, "noise_sd": 5.64})))


def released_and_withheld(kept: Ledger) -> None:
    kept.release()
    kept.bodies = [("run-1", body("door-1", 1, {"towards": None, "noise_sd": 5.64}))]


def record_without_quality(kept: Ledger) -> None:
    kept.bodies.append(("run-1", '{"stream": "door-1", "seq": 1, "values": {"noise_sd": 5.64}}'))


def record_of_many_streams(kept: Ledger) -> None:
    kept.bodies.append(("run-1", body("door-1", 1, values()).replace('"door-1"', "[]")))


def loose_policy(kept: Ledger) -> None:
    kept.live("run-2", TERMS._replace(policy=Policy(900, Fraction(1))))


BROKEN: tuple[tuple[Callable[[Ledger], None], str], ...] = (
    (twice_settled, "settles a window that was released before"),
    (twice_reserved, "reserves a window for the second time"),
    (overlapping, "reserves a time that an earlier window of the sensor has too"),
    (unreserved, "releases a window that was not reserved"),
    (dearer, "reserves epsilon 1, not the policy's"),
    (burned_and_released, "settles a window that was burned before"),
    (one_record_for_two, "names record door-1 1, which is another window's"),
    (record_without_line, "has figures, and no line releases them"),
    (record_of_another_run, "has figures, and no line releases them"),
    (other_figures, "has other figures than were released"),
    (burned_without_line, "says burned, and no line does"),
    (unclamped_without_line, "has figures, and no line releases them"),
    (plain_figure_without_line, "has figures, and no line releases them"),
    (released_and_withheld, "has other figures than were released"),
    (record_without_quality, "a record of run run-1 makes no sense"),
    (record_of_many_streams, "a record of run run-1 makes no sense"),
    (loose_policy, "spends more than its own limit"),
)


@pytest.mark.parametrize(("how", "what"), BROKEN, ids=[how.__name__ for how, _ in BROKEN])
def test_an_audit_names_what_does_not_hold(
    kept: Ledger, how: Callable[[Ledger], None], what: str
) -> None:
    how(kept)
    assert what in kept.audit().broken


@contextmanager
def closed(kept: Ledger) -> Iterator[None]:
    """What is done inside is closed away into a day's line."""
    yield
    for number in range(1, 4):
        day(kept, 96 * number, ("door-9",))
    assert not any(json.loads(text)["line"] == "reserve" and json.loads(text)["sensor"] == "door-1"
                   for _, text in kept.rows())  # fmt: skip


def test_what_a_day_cost_and_that_the_file_was_damaged_are_told_after_it_was_closed(
    kept: Ledger,
) -> None:
    kept.book.begin(NOON_NS, "is of version 99")
    with closed(kept):
        kept.release(window=0)
    cheaper = TERMS._replace(policy=Policy(900, Fraction(1, 16)))
    kept.live("run-2", cheaper)
    for number in range(4, 7):
        for window in range(96 * number, 96 * number + 96):
            kept.release("door-9", window, epsilon="1/16")
    finding = kept.audit()
    assert (finding.broken, finding.epsilon) == ("", "1/4")
    assert finding.damages == ["2027-01-16T12:00:00.000Z: is of version 99"]


def test_a_burned_record_that_left_from_memory_needs_no_line_but_contradicts_none(
    kept: Ledger,
) -> None:
    kept.release()
    said = {"towards": None, "noise_sd": 5.64}
    lost = ("run-0", body("door-1", 7, said, "burned"))
    assert audit(kept.rows(), kept.bodies, [lost]).broken == ""
    released = ("run-1", body("door-1", 1, said, "burned"))
    assert audit(kept.rows(), kept.bodies, [released]).broken


def test_damage_is_told_beside_what_does_not_hold(kept: Ledger) -> None:
    kept.book.begin(NOON_NS, "is of version 99")
    kept.release()
    kept.db.execute("DELETE FROM ledger WHERE n = 2")
    finding = kept.audit()
    assert (finding.line, len(finding.damages)) == (2, 1)


def test_a_record_made_twice_is_found_over_days_that_were_closed(kept: Ledger) -> None:
    with closed(kept):
        kept.release(window=0)
    kept.seq = 0
    kept.release(window=400)
    assert "record door-1 1" in kept.audit().broken


def test_a_window_released_again_is_found_over_days_that_were_closed(kept: Ledger) -> None:
    with closed(kept):
        kept.release(window=0)
    kept.release(window=0)
    assert "reserves a time that an earlier window" in kept.audit().broken


def test_what_did_not_hold_when_its_day_was_closed_is_told_for_ever(kept: Ledger) -> None:
    with closed(kept):
        kept.release(window=0)
        kept.db.execute("UPDATE ledger SET body = replace(body, '900', '901') WHERE n = 3")
    finding = kept.audit()
    assert "did not hold when its day was closed" in finding.broken
    assert finding.line == 4
