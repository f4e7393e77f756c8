"""The ledger finds each way in which a spool can fail its promise."""

from __future__ import annotations

import json

import pytest

from agent.record import gap_body
from agent.spool import PreviousRun
from hil.ledger import Examination, Ledger, Message, digest

RUN = "r1"


def body(seq: int, text: str = "") -> str:
    return json.dumps({"stream": "snow-1", "seq": seq, "values": {"text": text}})


def entry(seq: int, text: str = "") -> tuple[str, str]:
    return RUN, body(seq, text)


def gap(first: int, last: int) -> tuple[str, str]:
    return RUN, gap_body("snow-1", first, last, "spool_full", None, None)


def committed(*seqs: int) -> Message:
    return "committed", [("snow-1", seq, digest(body(seq))) for seq in seqs]


@pytest.fixture
def ledger() -> Ledger:
    """Heard of one run that committed 1 and 2."""
    ledger = Ledger(may_evict=True)
    ledger.hear([("begun", RUN), committed(1), committed(2)], Examination())
    return ledger


def compared(ledger: Ledger, *entries: tuple[str, str]) -> Examination:
    found = Examination()
    ledger.compare(entries, found)
    return found


def test_what_was_committed_and_is_there_is_in_order(ledger: Ledger) -> None:
    assert compared(ledger, entry(1), entry(2)) == Examination()


def test_what_was_committed_and_is_not_there_is_absent_and_said_once(ledger: Ledger) -> None:
    assert compared(ledger, entry(2)).absent == {(RUN, "snow-1", 1)}
    assert compared(ledger, entry(2)).absent == set()


def test_a_gap_stands_for_every_number_in_it(ledger: Ledger) -> None:
    found = compared(ledger, gap(1, 2))
    assert found.absent == set()
    assert found.evicted == {(RUN, "snow-1", 1), (RUN, "snow-1", 2)}


def test_a_gap_where_there_was_room_is_found() -> None:
    assert compared(Ledger(may_evict=False), gap(1, 1)).findings


def test_a_body_that_changed_is_found(ledger: Ledger) -> None:
    assert compared(ledger, entry(1, "other"), entry(2)).findings


def test_a_number_that_is_there_twice_is_found(ledger: Ledger) -> None:
    assert compared(ledger, entry(1), entry(2), entry(2)).findings
    assert compared(ledger, entry(1), gap(1, 2)).findings


def test_the_next_number_may_have_been_committed_untold_and_must_then_stay(
    ledger: Ledger,
) -> None:
    assert compared(ledger, entry(1), entry(2), entry(3)) == Examination()
    assert compared(ledger, entry(1), entry(2)).absent == {(RUN, "snow-1", 3)}


def test_a_hole_in_the_numbers_is_found(ledger: Ledger) -> None:
    assert compared(ledger, entry(1), entry(2), entry(4)).findings


def test_a_record_of_a_run_that_was_over_is_found(ledger: Ledger) -> None:
    ledger.hear([("begun", "r2")], Examination())
    assert compared(ledger, entry(1), entry(2), entry(3)).findings


def test_what_was_told_after_the_cut_binds_nobody() -> None:
    ledger = Ledger(may_evict=True)
    ledger.hear([("begun", RUN)], Examination(), after=[committed(1), ("closed", None)])
    assert compared(ledger) == Examination()


@pytest.mark.parametrize(
    "previous",
    [
        None,
        PreviousRun("r0", False, {"snow-1": 2}),
        PreviousRun(RUN, False, {"snow-1": 1}),
        PreviousRun(RUN, False, {}),
    ],
)
def test_a_next_start_that_tells_less_than_was_committed_is_found(
    previous: PreviousRun | None, ledger: Ledger
) -> None:
    found = Examination()
    ledger.check_previous(previous, found)
    assert found.findings


def test_a_next_start_may_tell_more_than_was_told(ledger: Ledger) -> None:
    found = Examination()
    ledger.check_previous(PreviousRun(RUN, False, {"snow-1": 3}), found)
    assert found == Examination()


def test_a_run_that_closed_must_be_told_as_clean(ledger: Ledger) -> None:
    ledger.hear([("begun", "r2"), committed(1), ("closed", None)], Examination())
    found = Examination()
    ledger.check_previous(PreviousRun("r2", False, {"snow-1": 1}), found)
    assert found.findings


def test_a_bug_is_passed_on() -> None:
    found = Examination()
    Ledger(may_evict=True).hear([("begun", RUN), ("bug", "KeyError")], found)
    assert found.findings == ["a bug: KeyError"]
