"""What is sent next: lanes, pacing, holds; everything arrives once the broker is good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.outbox import (
    ACK_TIMEOUT_S,
    ALERT_LIMIT,
    HOLD_S,
    LIVE_LIMIT,
    NO_MATCHING_SUBSCRIBERS,
    PAGE_ENTRIES,
    PAYLOAD_FORMAT_INVALID,
    RECEIPTS_COME_S,
    SUCCESS,
    Answer,
    Outbox,
    Send,
)
from agent.receipts import Receipts
from agent.record import ALERTS_STREAM, Entry, Page, Parcel

NOT_AUTHORISED = 0x87
QUOTA_EXCEEDED = 0x97
ENTRY_BYTES = 100
KINDS = {"snow-1": "snow", "snow-2": "snow", "door-1": "people", "gateway": "gateway"}


def entry(number: int, stream: str = "snow-1", *, run: str = "r1", config: str = "c1") -> Entry:
    made = Entry(2 * number, run, stream, KINDS[stream], config, number, 0, "{}")
    KNOWN[made.id] = made
    return made


KNOWN: dict[int, Entry] = {}  # by id; a parcel carries no more than that and the body


def entries_of(send: Send) -> tuple[Entry, ...]:
    return tuple(KNOWN[each] for each in send.parcel.ids)


def outbox(
    *, inflight: int = 16, batch: int = 200, rate: float = 1e6, require_subscriber: bool = True
) -> Outbox:
    return Outbox(
        inflight=inflight,
        batch_records=batch,
        backlog_bytes_per_s=rate,
        require_subscriber=require_subscriber,
    )


def key_of(each: Entry) -> tuple[str, str, str]:
    return each.run, each.kind, each.config_id


class Disk:
    """What waits, as the spool would show it."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = list(entries)

    @property
    def last_id(self) -> int:
        return max((waiting.id for waiting in self.entries), default=0)

    def fill(self, outbox: Outbox, now_s: float) -> None:
        while (request := outbox.wants_page(now_s)) is not None:
            seen = [e for e in self.entries if request.after_id < e.id <= request.up_to_id]
            seen = seen[: request.limit]
            packed: list[list[Entry]] = []
            for each in seen:
                if each.kind in request.without_kinds or each.id in request.without_ids:
                    continue
                alike = [p for p in packed if key_of(p[0]) == key_of(each)]
                if alike and len(alike[-1]) < request.parcel_records:
                    alike[-1].append(each)
                else:
                    packed.append([each])
            parcels = [
                Parcel(
                    *key_of(p[0]),
                    tuple(e.id for e in p),
                    tuple(e.body for e in p),
                    tuple(((e.stream, e.seq),) for e in p),
                    records=len(p),
                )
                for p in packed
            ]
            outbox.take_page(Page(parcels, seen[-1].id if seen else request.after_id))

    def remove(self, ids: Iterable[int]) -> None:
        gone = set(ids)
        self.entries = [each for each in self.entries if each.id not in gone]


def connected(
    outbox: Outbox, disk: Disk, now_s: float = 0.0, newest: Iterable[tuple[Entry, float]] = ()
) -> Outbox:
    outbox.connected(newest, now_s, last_id=disk.last_id)
    return outbox


def sends(outbox: Outbox, disk: Disk, now_s: float = 0.0) -> list[Send]:
    """Send all that may be sent now."""
    found = []
    while True:
        disk.fill(outbox, now_s)
        send = outbox.next(now_s)
        if send is None:
            return found
        outbox.sent(send, ENTRY_BYTES * len(entries_of(send)), now_s)
        found.append(send)


def seqs(send: Send) -> list[int]:
    return [each.seq for each in entries_of(send)]


# Lanes


def test_nothing_is_sent_without_a_connection() -> None:
    disk, box = Disk([entry(1)]), outbox()
    box.committed([(entry(2), 0.0)])
    assert sends(box, disk) == []


def test_nothing_is_sent_after_a_loss_until_there_is_a_connection_again() -> None:
    disk = Disk([entry(1)])
    box = connected(outbox(), disk)
    assert sends(box, disk) != []
    box.lost()
    disk.entries.append(entry(2))
    box.committed([(entry(2), 0.0)])
    box.rewind(disk.last_id)
    assert sends(box, disk, 10.0) == []
    assert len(sends(connected(box, disk, 20.0), disk, 20.0)) == 1


def test_what_was_there_before_goes_as_backlog_oldest_first() -> None:
    disk = Disk(entry(number) for number in range(1, 6))
    box = connected(outbox(batch=3), disk)
    (first,) = sends(box, disk)
    assert (first.topic, seqs(first)) == ("backlog/snow", [1, 2, 3])
    box.answered(first.token, SUCCESS, 0.0)
    (second,) = sends(box, disk)
    assert seqs(second) == [4, 5]


def test_what_is_committed_while_connected_goes_live_when_it_is_due() -> None:
    disk = Disk()
    box = connected(outbox(), disk)
    box.committed([(entry(1), 6.1), (entry(2, "snow-2"), 6.1)])
    assert sends(box, disk, 6.0) == []
    assert box.wait_s(6.0) == pytest.approx(0.1)
    (send,) = sends(box, disk, 6.1)
    assert (send.topic, seqs(send)) == ("live/snow", [1, 2])


def test_the_present_comes_before_the_past() -> None:
    disk = Disk(entry(number) for number in range(1, 9))
    newest = disk.entries[-1]
    box = connected(outbox(), disk, newest=[(newest, 0.0)])
    assert [send.topic for send in sends(box, disk)] == ["live/snow", "backlog/snow"]


def test_the_newest_that_went_live_is_not_sent_as_backlog_too() -> None:
    disk = Disk(entry(number) for number in range(1, 4))
    box = connected(outbox(), disk, newest=[(disk.entries[-1], 0.0)])
    live, backlog = sends(box, disk)
    assert (seqs(live), seqs(backlog)) == ([3], [1, 2])


@pytest.mark.parametrize("other", [{"run": "r2"}, {"config": "c2"}])
def test_a_message_holds_one_run_and_one_configuration(other: dict[str, str]) -> None:
    disk = Disk([entry(1), entry(2), entry(3, **other)])
    box = connected(outbox(), disk)
    (first,) = sends(box, disk)
    assert seqs(first) == [1, 2]
    box.answered(first.token, SUCCESS, 0.0)
    assert [seqs(send) for send in sends(box, disk)] == [[3]]


@pytest.mark.parametrize("other", [{"run": "r2"}, {"config": "c2"}])
def test_a_live_message_holds_one_run_and_one_configuration_too(other: dict[str, str]) -> None:
    """What an earlier life measured last is live once more after a restart."""
    newest = [(entry(1), 0.0), (entry(2, "snow-2", **other), 0.0)]
    box = connected(outbox(), Disk(), newest=newest)
    (first,) = sends(box, Disk())
    assert (first.topic, seqs(first)) == ("live/snow", [1])
    box.answered(first.token, SUCCESS, 0.0)
    assert [seqs(send) for send in sends(box, Disk())] == [[2]]


def test_each_kind_has_a_topic_of_its_own() -> None:
    disk = Disk([entry(1), entry(2, "door-1"), entry(3)])
    box = connected(outbox(), disk)
    assert [(send.topic, seqs(send)) for send in sends(box, disk)] == [
        ("backlog/snow", [1, 3]),
        ("backlog/people", [2]),
    ]


# The window


@pytest.mark.parametrize(("limit", "broker", "window"), [(4, None, 4), (4, 2, 2), (2, 9, 2)])
def test_no_more_messages_are_in_flight_than_we_and_the_broker_allow(
    limit: int, broker: int | None, window: int
) -> None:
    disk = Disk(entry(number) for number in range(1, 30))
    box = outbox(inflight=limit, batch=1)
    box.connected([], 0.0, last_id=disk.last_id, receive_maximum=broker)
    (first,) = sends(box, disk)
    box.answered(first.token, SUCCESS, 0.0)
    assert len(sends(box, disk)) == window - window // 4  # the rest is kept for the present


def test_what_is_live_and_alerts_keep_to_the_window_too() -> None:
    box = connected(outbox(inflight=3, batch=1), Disk())
    box.take_alerts([])
    box.committed([(entry(1), 0.0), (alert(2), 0.0)])
    for first in sends(box, Disk()):
        box.answered(first.token, SUCCESS, 0.0)
    box.committed([(entry(number), 0.0) for number in range(3, 12)])
    box.committed([(alert(number), 0.0) for number in range(12, 20)])
    assert len(sends(box, Disk())) == 3


def test_a_topic_begins_with_one_message_and_opens_when_that_is_acknowledged() -> None:
    disk = Disk(entry(number) for number in range(1, 30))
    box = connected(outbox(inflight=5, batch=1), disk)
    (first,) = sends(box, disk)
    assert sends(box, disk) == []
    answer = box.answered(first.token, SUCCESS, 0.0)
    assert answer is not None
    assert answer.done == (2,)
    assert len(sends(box, disk)) == 4  # of five: one is kept for the present


def test_an_acknowledgement_nobody_waits_for_means_nothing() -> None:
    disk = Disk([entry(1)])
    box = connected(outbox(), disk)
    (send,) = sends(box, disk)
    assert box.answered(send.token + 1, SUCCESS, 0.0) is None
    assert box.answered(send.token, SUCCESS, 0.0) is not None
    assert box.answered(send.token, SUCCESS, 0.0) is None


def test_a_broker_that_never_acknowledges_is_noticed() -> None:
    disk = Disk([entry(1)])
    box = connected(outbox(), disk)
    sends(box, disk)
    assert not box.ack_overdue(ACK_TIMEOUT_S - 0.1)
    assert box.wait_s(ACK_TIMEOUT_S - 0.1) == pytest.approx(0.1)
    assert box.ack_overdue(ACK_TIMEOUT_S)


def test_what_is_older_than_what_went_live_does_not_go_live_behind_it() -> None:
    disk = Disk([entry(1), entry(2)])
    box = connected(outbox(), disk, newest=[(disk.entries[1], 0.0)])
    live = sends(box, disk)[0]
    assert (live.topic, seqs(live)) == ("live/snow", [2])
    answer = box.answered(live.token, SUCCESS, 0.0)
    assert answer is not None
    disk.remove(answer.done)
    box.lost()
    connected(box, disk, 10.0, newest=[(disk.entries[0], 0.0)])  # now the newest that waits
    assert [send.topic for send in sends(box, disk, 10.0)] == ["backlog/snow"]


def test_after_a_loss_what_was_in_flight_is_sent_again() -> None:
    disk = Disk([entry(1), entry(2)])
    box = connected(outbox(), disk)
    sends(box, disk)
    box.lost()
    connected(box, disk, 10.0)
    assert [seqs(send) for send in sends(box, disk, 10.0)] == [[1, 2]]


# Pacing


def test_the_backlog_is_paced_and_live_is_not() -> None:
    disk = Disk(entry(number) for number in range(1, 100))
    box = connected(outbox(batch=1, rate=1000.0), disk)
    (first,) = sends(box, disk)
    box.answered(first.token, SUCCESS, 0.0)
    burst = [first, *sends(box, disk)]
    assert sum(len(entries_of(send)) for send in burst) * ENTRY_BYTES == 1000
    for send in burst[1:]:
        box.answered(send.token, SUCCESS, 0.0)
    assert sends(box, disk) == []
    box.committed([(entry(1000), 0.0)])
    assert [send.topic for send in sends(box, disk)] == ["live/snow"]
    assert 0 < box.wait_s(0.0) < 0.01
    assert len(sends(box, disk, 0.5)) == 5


def test_an_hour_of_silence_earns_one_second_of_backlog_at_most() -> None:
    disk = Disk(entry(number) for number in range(1, 200))
    box = connected(outbox(inflight=100, batch=1, rate=1000.0), disk)
    (first,) = sends(box, disk)
    box.answered(first.token, SUCCESS, 0.0)
    assert len(sends(box, disk, 3600.0)) == 10


# Holds


@pytest.mark.parametrize("code", [NO_MATCHING_SUBSCRIBERS, NOT_AUTHORISED, QUOTA_EXCEEDED])
def test_what_nobody_takes_is_held_and_asked_again_with_one_message(code: int) -> None:
    disk = Disk(entry(number) for number in range(1, 10))
    box = connected(outbox(batch=1), disk)
    (first,) = sends(box, disk)
    answer = box.answered(first.token, code, 5.0)
    assert answer is not None
    assert (answer.done, answer.held, answer.edge) == ((), True, True)
    assert sends(box, disk, 5.0 + HOLD_S - 0.1) == []
    assert box.wait_s(5.0 + HOLD_S - 0.1) == pytest.approx(0.1)
    (probe,) = sends(box, disk, 5.0 + HOLD_S)
    assert seqs(probe) == [1]
    again = box.answered(probe.token, code, 40.0)
    assert again is not None
    assert (again.held, again.edge) == (True, False)
    (probe,) = sends(box, disk, 40.0 + HOLD_S)
    flows = box.answered(probe.token, SUCCESS, 71.0)
    assert flows is not None
    assert (flows.done, flows.held, flows.edge) == ((2,), False, True)
    assert len(sends(box, disk, 71.0)) == 8


def test_a_hold_is_one_topics_own() -> None:
    disk = Disk([entry(1), entry(2, "door-1")])
    box = connected(outbox(), disk)
    snow, people = sends(box, disk)
    box.answered(snow.token, NO_MATCHING_SUBSCRIBERS, 0.0)
    box.answered(people.token, SUCCESS, 0.0)
    disk.remove([4])
    disk.entries.append(entry(3, "door-1"))
    box.rewind(disk.last_id)
    assert [send.topic for send in sends(box, disk)] == ["backlog/people"]


def test_a_topic_that_flowed_before_its_hold_is_asked_with_one_message_too() -> None:
    disk = Disk(entry(number) for number in range(1, 10))
    box = connected(outbox(batch=1), disk)
    (first,) = sends(box, disk)
    answer = box.answered(first.token, SUCCESS, 0.0)
    assert answer is not None
    disk.remove(answer.done)
    for send in sends(box, disk):
        box.answered(send.token, NO_MATCHING_SUBSCRIBERS, 1.0)
    assert [seqs(send) for send in sends(box, disk, 1.0 + HOLD_S)] == [[2]]


def test_a_held_live_record_is_asked_for_on_its_own_topic() -> None:
    disk = Disk()
    box = connected(outbox(), disk)
    disk.entries.append(entry(1))
    box.committed([(entry(1), 0.0)])
    (first,) = sends(box, disk)
    box.answered(first.token, NO_MATCHING_SUBSCRIBERS, 0.0)
    assert sends(box, disk, HOLD_S - 0.1) == []
    assert [send.topic for send in sends(box, disk, HOLD_S)] == ["live/snow"]


def test_where_a_subscriber_is_not_required_nobody_subscribing_is_delivery() -> None:
    disk = Disk([entry(1)])
    box = connected(outbox(require_subscriber=False), disk)
    (send,) = sends(box, disk)
    answer = box.answered(send.token, NO_MATCHING_SUBSCRIBERS, 0.0)
    assert answer is not None
    assert answer.done == (2,)


def test_a_new_connection_forgets_holds() -> None:
    disk = Disk([entry(1)])
    box = connected(outbox(), disk)
    (send,) = sends(box, disk)
    box.answered(send.token, NO_MATCHING_SUBSCRIBERS, 0.0)
    box.lost()
    connected(box, disk, 1.0)
    assert len(sends(box, disk, 1.0)) == 1


# Bounds, and the end


def test_memory_does_not_grow_with_what_waits() -> None:
    disk = Disk(entry(number) for number in range(1, 5 * PAGE_ENTRIES))
    box = connected(outbox(), disk)
    disk.fill(box, 0.0)
    held = len(box._page) + sum(map(len, box._prompt.values()))
    assert held <= PAGE_ENTRIES


def test_live_records_beyond_a_bound_wait_in_the_spool_and_still_arrive() -> None:
    disk = Disk()
    box = connected(outbox(), disk)
    for number in range(1, LIVE_LIMIT + 100):
        disk.entries.append(entry(number))
        box.committed([(entry(number), 1e9)])
    assert sum(map(len, box._prompt.values())) <= LIVE_LIMIT
    arrived: list[int] = []
    while found := sends(box, disk, 0.0):
        for send in found:
            arrived += seqs(send)
            answer = box.answered(send.token, SUCCESS, 0.0)
            assert answer is not None
            disk.remove(answer.done)
    assert arrived == list(range(1, arrived[-1] + 1))
    assert len(arrived) >= LIVE_LIMIT


def test_at_a_stop_nothing_waits_for_its_time_or_its_turn() -> None:
    disk = Disk(entry(number) for number in range(1, 60))
    box = connected(outbox(batch=20, rate=300.0), disk)
    box.committed([(entry(100), 500.0)])
    box.drain()
    topics = []
    while found := sends(box, disk):
        for send in found:
            topics.append(send.topic)
            assert not box.is_quiet
            answer = box.answered(send.token, SUCCESS, 0.0)
            assert answer is not None
            disk.remove(answer.done)
    assert topics == ["live/snow", "backlog/snow", "backlog/snow", "backlog/snow"]
    assert box.is_quiet


# Alerts


def alert(number: int, kind: str = "snow") -> Entry:
    made = Entry(2 * number, "r1", ALERTS_STREAM, kind, "c1", number, 0, "{}")
    KNOWN[made.id] = made
    return made


def test_alerts_go_before_what_is_live_and_that_before_the_backlog() -> None:
    disk = Disk([entry(1)])
    box = connected(outbox(rate=300.0), disk)
    box.take_alerts([])
    box.committed([(entry(2), 0.0), (alert(3), 0.0)])
    topics = [send.topic for send in sends(box, disk)]
    assert topics == ["alert/snow", "live/snow", "backlog/snow"]


def test_alerts_are_not_paced() -> None:
    box = connected(outbox(batch=1, rate=300.0), Disk())
    box.take_alerts([(alert(number), 0.0) for number in range(1, 100)])
    (first,) = sends(box, Disk())
    box.answered(first.token, SUCCESS, 0.0)
    assert len(sends(box, Disk())) == 16


def test_alerts_that_waited_in_the_spool_are_asked_for_on_connecting() -> None:
    box = outbox()
    assert not box.wants_alerts()
    connected(box, Disk())
    assert box.wants_alerts()
    box.take_alerts([(alert(1), 0.0)])
    assert not box.wants_alerts()


def test_an_alert_does_not_overtake_those_that_wait_in_the_spool() -> None:
    box = connected(outbox(batch=1000), Disk())
    box.take_alerts([(alert(number), 0.0) for number in range(1, ALERT_LIMIT + 1)])
    box.committed([(alert(ALERT_LIMIT + 9), 0.0)])
    (send,) = sends(box, Disk())
    assert seqs(send) == list(range(1, ALERT_LIMIT + 1))
    assert box.wants_alerts()


def test_an_alert_that_nobody_takes_does_not_keep_back_those_of_another_kind() -> None:
    box = connected(outbox(), Disk())
    box.take_alerts([(alert(1), 0.0)])
    (send,) = sends(box, Disk())
    box.answered(send.token, NO_MATCHING_SUBSCRIBERS, 0.0)
    box.rewind()
    assert box.wants_alerts()
    box.take_alerts([(alert(2, "gateway"), 0.0)])
    assert [send.topic for send in sends(box, Disk())] == ["alert/gateway"]


def test_an_alert_that_waits_for_its_time_keeps_back_none_of_another_kind() -> None:
    box, disk = connected(outbox(), Disk()), Disk()
    box.take_alerts([])
    box.committed(
        [(alert(1, "people"), 6.1), (alert(2, "cabinet"), 0.0), (alert(3, "people"), 0.0)]
    )
    assert [send.topic for send in sends(box, disk)] == ["alert/cabinet"]
    (send,) = sends(box, disk, now_s=6.1)
    assert (send.topic, seqs(send)) == ("alert/people", [1, 3])


def test_where_the_clock_steps_a_later_record_does_not_leave_before_an_earlier_one() -> None:
    box = connected(outbox(), Disk())
    box.committed([(entry(1), 6.1), (entry(2), -3600.0), (entry(3, "snow-2"), 0.0)])
    assert [seqs(send) for send in sends(box, Disk(), 1.0)] == [[3]]
    assert box.wait_s(1.0) > 0


# Receipts


def receipted(disk: Disk, *, timeout_s: float = 600.0, **options: Any) -> Outbox:
    box = Outbox(
        inflight=16,
        batch_records=200,
        backlog_bytes_per_s=1e6,
        require_subscriber=True,
        receipt_timeout_s=timeout_s,
    )
    return connected(box, disk, **options)


def pack(row_id: int, *tops: tuple[str, int]) -> Parcel:
    return Parcel("r1", "snow", "c1", (row_id,), (), (tops,), b"x", records=10)


def test_only_the_receipt_frees_the_spool() -> None:
    box = receipted(Disk())
    box.committed([(entry(1), 0.0), (entry(2), 0.0), (entry(3), 0.0)])
    (send,) = sends(box, Disk())
    answer = box.answered(send.token, SUCCESS, 0.0)
    assert answer is not None
    assert answer.done == ()
    assert set(box.claimed_ids) == {2, 4, 6}
    first = box.receipt("r1", "snow-1", 2)
    assert (first.done, first.records) == ((2, 4), 2)
    assert box.receipt("r1", "snow-1", 2).done == ()
    assert box.receipt("r1", "snow-1", 3).done == (6,)


def test_a_receipt_of_another_run_or_stream_frees_nothing() -> None:
    box = receipted(Disk())
    box.committed([(entry(1), 0.0)])
    (send,) = sends(box, Disk())
    box.answered(send.token, SUCCESS, 0.0)
    assert box.receipt("r2", "snow-1", 9).done == ()
    assert box.receipt("r1", "snow-2", 9).done == ()


def test_a_receipt_of_another_run_or_stream_keeps_nothing_from_being_sent() -> None:
    box = receipted(Disk())
    box.receipt("r2", "snow-1", 9)
    box.receipt("r1", "snow-2", 9)
    assert box.take_page(Page([pack(2, ("snow-1", 7))], 2)) is None
    (send,) = sends(box, Disk(), 10.0)
    answer = box.answered(send.token, SUCCESS, 10.0)
    assert answer is not None
    assert answer.done == ()


def test_what_stays_without_a_receipt_is_sent_again() -> None:
    disk = Disk([entry(1)])
    box = receipted(disk, timeout_s=60.0)
    (send,) = sends(box, disk, 2.0)
    box.answered(send.token, SUCCESS, 3.0)
    assert sends(box, disk, 62.9) == []
    assert box.wait_s(62.9) == pytest.approx(0.1)
    assert [seqs(send) for send in sends(box, disk, 63.0)] == [[1]]


def test_what_went_live_and_stays_without_a_receipt_is_sent_again_too() -> None:
    disk = Disk()
    box = receipted(disk, timeout_s=60.0)
    disk.entries.append(entry(1))
    box.committed([(entry(1), 0.0)])
    (send,) = sends(box, disk, 10.0)
    box.answered(send.token, SUCCESS, 10.0)
    assert [send.topic for send in sends(box, disk, 70.0)] == ["backlog/snow"]


def test_a_new_connection_does_not_send_again_what_waits_for_its_receipt() -> None:
    disk = Disk([entry(1)])
    box = receipted(disk)
    (send,) = sends(box, disk, 2.0)
    box.answered(send.token, SUCCESS, 3.0)
    box.lost()
    connected(box, disk, 4.0, newest=[(disk.entries[0], 0.0)])
    assert sends(box, disk, 10.0) == []


def test_the_citys_retained_receipts_come_before_the_backlog() -> None:
    disk = Disk([entry(1), entry(2)])
    box = receipted(disk)
    assert sends(box, disk, RECEIPTS_COME_S - 0.1) == []
    assert box.wait_s(RECEIPTS_COME_S - 0.1) == pytest.approx(0.1)
    box.receipt("r1", "snow-1", 1)
    assert [seqs(send) for send in sends(box, disk, RECEIPTS_COME_S)] == [[2]]


def test_what_the_city_already_holds_leaves_without_being_sent() -> None:
    box = receipted(Disk())
    box.receipt("r1", "snow-1", 7)
    answer = box.take_page(Page([pack(2, ("snow-1", 7))], 2))
    assert answer is not None
    assert (answer.done, answer.records) == ((2,), 10)
    assert sends(box, Disk(), 10.0) == []


def test_a_pack_leaves_when_every_stream_in_it_is_covered_even_if_it_was_sent_twice() -> None:
    receipts = Receipts(60.0)
    both = pack(2, ("snow-1", 5), ("snow-2", 5))
    assert receipts.wait_for(both, 0.0) == ((), 0)
    assert receipts.expire(60.0)
    assert receipts.wait_for(both, 61.0) == ((), 0)
    assert receipts.came("r1", "snow-1", 5) == ((), 0)
    assert receipts.came("r1", "snow-2", 5) == ((2,), 10)


def test_a_city_that_never_confirms_does_not_fill_the_memory() -> None:
    receipts = Receipts(60.0)
    for time in range(1000):
        for row_id in range(10):
            receipts.wait_for(pack(row_id, ("snow-1", row_id)), 100.0 * time)
        receipts.expire(100.0 * time + 60.0)
    assert sum(map(len, receipts._by_stream.values())) < 100


def test_receipts_for_runs_that_never_were_do_not_fill_the_memory() -> None:
    receipts = Receipts(60.0)
    receipts.wait_for(pack(1, ("snow-1", 5)), 0.0)
    for number in range(11_000):
        receipts.came(f"r{number + 2}", "snow-1", 7)
        receipts.came("x" * 60_000, f"s{number}", 7)
        receipts.came("r1", "snow-2", 5)
    assert len(receipts._through) == 10_000
    assert max(len(run) for run, _ in receipts._through) <= 64
    assert receipts.uncovered(pack(2, ("snow-2", 5))) is None  # heard of late: known still
    assert receipts.came("r1", "snow-1", 5) == ((1,), 10)


# Packs


@pytest.mark.parametrize("code", [PAYLOAD_FORMAT_INVALID, None])
def test_a_pack_that_cannot_travel_is_taken_apart(code: int | None) -> None:
    box = connected(outbox(), Disk([entry(1)]))
    box.take_page(Page([pack(2, ("snow-1", 5))], 2))
    send = box.next(0.0)
    assert send is not None
    if code is None:  # larger than the broker takes
        answer: Answer | None = box.too_large(send)
    else:
        box.sent(send, 100, 0.0)
        answer = box.answered(send.token, code, 0.0)
    assert answer is not None
    assert (answer.unfit, answer.done, answer.rejected) == ((2,), (), None)
    assert list(box.claimed_ids) == []


def test_a_pack_that_no_longer_fits_is_taken_apart_before_it_is_sent() -> None:
    box = connected(outbox(), Disk([entry(1)]))
    answer = box.take_page(Page([], 2, unfit=(2,)))
    assert answer is not None
    assert answer.unfit == (2,)


# Any order of events


class OutboxMachine(RuleBasedStateMachine):
    """An outbox between a spool and a broker that do anything, in any order."""

    @initialize(
        inflight=st.integers(1, 4),
        batch=st.integers(1, 4),
        rate=st.sampled_from([300.0, 1e6]),
        required=st.booleans(),
        old=st.lists(st.sampled_from(sorted(KINDS)), max_size=12),
    )
    def begin(self, inflight: int, batch: int, rate: float, required: bool, old: list[str]) -> None:
        # Small pages and lanes, so that their ends are met.
        self.sizes = mock.patch.multiple("agent.outbox", PAGE_ENTRIES=8, LIVE_LIMIT=6)
        self.sizes.start()
        self.inflight, self.batch, self.rate, self.required = inflight, batch, rate, required
        self.box = outbox(inflight=inflight, batch=batch, rate=rate, require_subscriber=required)
        self.now_s = 1000.0
        self.count = 0
        self.runs = 0
        self.disk = Disk()
        self.hidden: list[Entry] = []  # waiting for the clock
        self.due_s: dict[int, float] = {}
        self.untold: list[tuple[Entry, float]] = []
        self.flights: dict[int, Send] = {}
        self.answered: list[int] = []
        self.delivered: set[int] = set()
        self.ever_sent: set[int] = set()
        self.last_first: dict[tuple[str, str], int] = {}
        self.in_order = True
        self.is_connected = False
        self._new_connection(0)
        for stream in old:
            self.disk.entries.append(self._entry(stream))

    def teardown(self) -> None:
        if not hasattr(self, "box"):
            return
        try:
            self._the_broker_becomes_good()
        finally:
            self.sizes.stop()

    def _new_connection(self, window: int) -> None:
        self.window = window
        self.flights = {}
        self.holds: dict[str, float] = {}
        self.proven: set[str] = set()
        self.backlog_bytes = 0
        self.connected_s = self.now_s

    def _entry(self, stream: str) -> Entry:
        self.count += 1
        return entry(self.count, stream, run=f"r{self.runs}", config=f"c{self.runs // 2}")

    def _visible(self) -> list[Entry]:
        hidden = {each.id for each in self.hidden}
        return [each for each in self.disk.entries if each.id not in hidden]

    # What happens to it

    @precondition(lambda self: not self.is_connected)
    @rule(maximum=st.none() | st.integers(1, 6), fresh=st.booleans())
    def connect(self, maximum: int | None, fresh: bool) -> None:
        newest = {each.stream: each for each in self._visible()} if fresh else {}
        for each in newest.values():
            self.due_s.setdefault(each.id, self.now_s)
        self._new_connection(min(self.inflight, maximum or self.inflight))
        self.box.connected(
            [(each, self.due_s[each.id]) for each in newest.values()],
            self.now_s,
            last_id=2 * self.count + 1,
            receive_maximum=maximum,
        )
        self.is_connected = True

    @precondition(lambda self: self.is_connected)
    @rule()
    def lose(self) -> None:
        self.box.lost()
        self._new_connection(0)
        self.is_connected = False

    @rule(
        streams=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5),
        reloaded=st.booleans(),
        offset_s=st.sampled_from([0.0, 6.1]),
        told=st.booleans(),
    )
    def commit(self, streams: list[str], reloaded: bool, offset_s: float, told: bool) -> None:
        self.runs += reloaded
        for stream in streams:
            each = self._entry(stream)
            self.disk.entries.append(each)
            before_s = max(
                (self.due_s.get(e.id, 0.0) for e in self.disk.entries if e.stream == stream),
                default=0.0,
            )
            self.due_s[each.id] = max(self.now_s + offset_s, before_s)
            self.untold.append((each, self.due_s[each.id]))
        if told:
            self.tell()

    @rule()
    def tell(self) -> None:
        self.box.committed(self.untold)
        self.untold = []

    @rule()
    def miss_what_was_committed(self) -> None:
        if self.untold:
            self.in_order = False  # they may overtake what is not due yet
        self.untold = []
        self.box.rewind(2 * self.count + 1)

    @rule(stream=st.sampled_from(sorted(KINDS)))
    def commit_a_record_of_unknown_time(self, stream: str) -> None:
        each = self._entry(stream)
        self.disk.entries.append(each)
        self.hidden.append(each)

    @rule()
    def the_time_becomes_known(self) -> None:
        self.tell()
        if self.hidden:
            self.in_order = False  # older numbers appear behind newer ones
        self.hidden = []
        self.box.rewind(2 * self.count + 1)

    @rule(by_s=st.sampled_from([0.1, 1.0, 7.0, 29.9, 31.0]))
    def wait(self, by_s: float) -> None:
        self.now_s += by_s

    @rule()
    def pump(self) -> None:
        while True:
            shown = Disk(self._visible())
            shown.fill(self.box, self.now_s)
            send = self.box.next(self.now_s)
            if send is None:
                return
            self._check(send)
            size = ENTRY_BYTES * len(entries_of(send))
            self.box.sent(send, size, self.now_s)
            self.flights[send.token] = send
            self.backlog_bytes += size if send.lane == "backlog" else 0

    def _check(self, send: Send) -> None:
        assert self.is_connected
        assert 1 <= len(entries_of(send)) <= self.batch
        assert len({(each.run, each.config_id, each.kind) for each in entries_of(send)}) == 1
        assert entries_of(send)[0].kind == send.kind
        in_flight = {each.id for flight in self.flights.values() for each in entries_of(flight)}
        for each in entries_of(send):
            assert each.id not in in_flight, "in flight twice at once"
            assert each.id not in self.delivered, "sent after it was acknowledged"
            if send.lane == "live":
                assert self.due_s[each.id] <= self.now_s, "before its time"
        assert self.holds.get(send.topic, 0.0) <= self.now_s, "a topic on hold"
        if send.topic not in self.proven:
            others = [flight for flight in self.flights.values() if flight.topic == send.topic]
            assert not others, "a deaf city is asked with one message"
        if send.lane == "backlog":
            earned = self.rate * (1 + self.now_s - self.connected_s)
            assert self.backlog_bytes < earned, "faster than the pace"
        for each in entries_of(send):
            if each.id not in self.ever_sent:
                key = send.topic, each.stream
                if self.in_order:
                    assert each.id > self.last_first.get(key, 0), "first transmissions in order"
                self.last_first[key] = each.id
                self.ever_sent.add(each.id)

    @precondition(lambda self: self.is_connected and self.flights)
    @rule(
        data=st.data(),
        code=st.sampled_from(
            [SUCCESS, SUCCESS, SUCCESS, NO_MATCHING_SUBSCRIBERS, NOT_AUTHORISED, QUOTA_EXCEEDED]
        ),
    )
    def answer(self, data: st.DataObject, code: int) -> None:
        self._answer(data.draw(st.sampled_from(sorted(self.flights))), code)

    def _answer(self, token: int, code: int) -> None:
        send = self.flights.pop(token)
        answer = self.box.answered(token, code, self.now_s)
        self.answered.append(token)
        assert answer is not None
        assert answer.topic == send.topic
        is_good = code == SUCCESS or (code == NO_MATCHING_SUBSCRIBERS and not self.required)
        if is_good:
            assert answer.done == tuple(each.id for each in entries_of(send))
            self.delivered |= set(answer.done)
            self.disk.remove(answer.done)
            self.proven.add(send.topic)
            self.holds.pop(send.topic, None)
        else:
            assert answer.held
            assert answer.done == ()
            self.in_order = False
            self.proven.discard(send.topic)
            self.holds[send.topic] = self.now_s + HOLD_S

    @precondition(lambda self: self.answered)
    @rule(data=st.data())
    def answer_twice(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.answered))
        assert self.box.answered(token, SUCCESS, self.now_s) is None

    @rule(part=st.floats(0.0, 0.99))
    def sleep_less_than_it_says(self, part: float) -> None:
        self.pump()
        # The pace is reckoned in whole bytes.
        nap_s = self.box.wait_s(self.now_s) * part - 1 / self.rate
        if nap_s <= 0:
            return
        self.now_s += nap_s
        assert self.box.next(self.now_s) is None, "it would have slept through this"

    # What must hold

    @invariant()
    def the_window_holds(self) -> None:
        if hasattr(self, "box"):
            assert len(self.flights) <= self.window

    def _the_broker_becomes_good(self) -> None:
        self.in_order = self.in_order and not self.hidden
        self.hidden = []
        if self.is_connected:
            self.tell()
            self.box.rewind(2 * self.count + 1)
        else:
            self.connect(None, fresh=True)
        for _ in range(500):
            self.pump()
            for token in sorted(self.flights):
                self._answer(token, SUCCESS)
            if not self.disk.entries:
                break
            self.now_s += max(self.box.wait_s(self.now_s), 0.001)
        assert self.box.is_quiet
        assert self.disk.entries == [], "not everything arrived"
        assert len(self.delivered) == self.count


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)


# Rejection


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_a_rejected_message_is_halved_until_what_the_broker_means_stands_alone(
    count: int, data: st.DataObject
) -> None:
    disk = Disk(entry(number) for number in range(1, count + 1))
    bad = data.draw(st.sets(st.sampled_from([each.id for each in disk.entries])))
    box = connected(outbox(), disk)
    rejected: set[int] = set()
    while burst := sends(box, disk):
        for send in burst:
            code = PAYLOAD_FORMAT_INVALID if bad & set(send.parcel.ids) else SUCCESS
            answer = box.answered(send.token, code, 0.0)
            assert answer is not None
            assert not answer.held
            disk.remove(answer.done)
            if answer.rejected is not None:
                rejected.add(answer.rejected)
                disk.remove([answer.rejected])
    assert rejected == bad
    assert disk.entries == []


def test_a_rejected_live_message_is_halved_on_its_own_topic() -> None:
    box = connected(outbox(), Disk())
    box.committed([(entry(1), 0.0), (entry(2), 0.0)])
    (send,) = sends(box, Disk())
    box.answered(send.token, PAYLOAD_FORMAT_INVALID, 0.0)
    halves = []
    while burst := sends(box, Disk()):  # an unproven topic takes one at a time
        for half in burst:
            halves.append((half.topic, seqs(half)))
            box.answered(half.token, SUCCESS, 0.0)
    assert halves == [("live/snow", [1]), ("live/snow", [2])]


def test_halves_of_halves_keep_their_order() -> None:
    box = connected(outbox(inflight=1), Disk())
    box.committed([(entry(number), 0.0) for number in range(1, 9)])
    heard: list[int] = []
    while (send := box.next(0.0)) is not None:
        if len(entries_of(send)) > 1:
            box.too_large(send)
            continue
        box.sent(send, ENTRY_BYTES, 0.0)
        heard += seqs(send)
        box.answered(send.token, SUCCESS, 0.0)
    assert heard == list(range(1, 9))


@settings(deadline=None)
@given(st.sampled_from(["live", "backlog"]), st.integers(1, 3), st.data())
def test_what_is_halved_and_refused_for_a_while_keeps_its_order(
    lane: str, most: int, data: st.DataObject
) -> None:
    """The broker takes at most so many at a time, and its quota runs out again and again."""
    entries = [entry(number) for number in range(1, 25)]
    disk = Disk(entries if lane == "backlog" else [])
    # One in flight: of several, one may be refused between two that are not.
    box = connected(outbox(inflight=1, batch=data.draw(st.integers(1, 24))), disk)
    if lane == "live":
        disk.entries = entries
        box.committed([(each, 0.0) for each in entries])
    heard: list[int] = []
    now_s = RECEIPTS_COME_S
    while disk.entries:
        now_s += HOLD_S
        disk.fill(box, now_s)
        burst: list[Send] = []
        while (send := box.next(now_s)) is not None:
            if len(send.parcel.ids) > most:
                box.too_large(send)
                continue
            box.sent(send, ENTRY_BYTES, now_s)
            burst.append(send)
        for send in burst:
            is_refused = now_s < 100 * HOLD_S and data.draw(st.booleans())
            answer = box.answered(send.token, QUOTA_EXCEEDED if is_refused else SUCCESS, now_s)
            assert answer is not None
            if not is_refused:
                assert send.lane == lane
                heard += seqs(send)
                disk.remove(answer.done)
    assert heard == list(range(1, 25))
