"""The city's account: every number is delivered, lost in a gap, or missing; and the wire to it."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from agent.numbers import Numbers
from hil.broker import MOSQUITTO, Broker, EmbeddedBroker, Mosquitto
from hil.city.account import Account, Report, StreamReport
from hil.city.subscriber import City
from hil.relay import Relay

LIVE = "yukimi/v1/gw/live/snow"
BACKLOG = "yukimi/v1/gw/backlog/snow"


def need_mosquitto() -> None:
    if not Path(MOSQUITTO).exists():
        reason = f"no {MOSQUITTO}: apt install mosquitto"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def record(seq: int, stream: str = "snow-1", values: Any = None) -> dict[str, Any]:
    return {"stream": stream, "seq": seq, "values": values or {}}


def gap(first: int, seq: int, why: str = "spool_full", stream: str = "snow-1") -> dict[str, Any]:
    return {
        "stream": stream,
        "first": first,
        "seq": seq,
        "gap": why,
        "start": None,
        "end": None,
    }


def batch(*records: Any, run: str = "r1", kind: str = "snow", **more: Any) -> bytes:
    document = {
        "schema": "yukimi.batch/1",
        "gateway": "gw",
        "run": run,
        "kind": kind,
        "config": "9f2c1ab04d77",
        "records": list(records),
    }
    return json.dumps(document | more).encode()


def only(report: Report) -> StreamReport:
    (stream,) = report.streams
    return stream


def test_what_is_delivered_in_order_is_one_line_without_complaint() -> None:
    account = Account()
    for seq in range(1, 6):
        assert account.take(LIVE, batch(record(seq)), 10.0 + seq) == [record(seq)]
    account.tell_produced("gw", "r1", {"snow-1": 5}, is_final=True)
    stream = only(account.report())
    assert (stream.produced, stream.delivered, stream.missing) == (5, 5, 0)
    assert (stream.duplicates, stream.disordered, stream.lost_count) == (0, 0, 0)
    assert stream.last_at_s == 15.0
    assert account.report().keeps_the_contract
    assert account.report().lines()[0] == (
        "gw r1 snow-1: produced 5 = delivered 5 + lost 0 + missing 0"
    )


def test_a_lost_tail_is_seen_once_the_next_run_says_what_the_last_one_produced() -> None:
    account = Account()
    account.take(LIVE, batch(record(1), record(2)))
    assert only(account.report()).missing == 0
    assert not only(account.report()).is_produced_told
    start = {
        "event": "start",
        "version": "1",
        "previous": {"run": "r1", "clean": False, "produced": {"snow-1": 4, "air-1": 1}},
    }
    account.take(
        "yukimi/v1/gw/alert/gateway",
        batch(record(1, "gateway", start), run="r2", kind="gateway"),
    )
    owed = {stream.stream: stream.missing_ranges for stream in account.report().streams}
    assert owed == {"snow-1": ((3, 4),), "air-1": ((1, 1),), "gateway": ()}
    assert not account.report().keeps_the_contract


def test_health_tells_what_this_run_has_produced_so_far() -> None:
    account = Account()
    account.take(LIVE, batch(record(1), record(2), record(3)))
    health = {"schema": "yukimi.health/1", "run": "r1", "produced": {"snow-1": 2}}
    account.take("yukimi/v1/gw/health", json.dumps(health).encode())
    assert only(account.report()).surplus == 0
    health["produced"] = {"snow-1": 5}
    account.take("yukimi/v1/gw/health", json.dumps(health).encode())
    assert only(account.report()).missing_ranges == ((4, 5),)


def test_more_than_was_finally_produced_is_a_surplus() -> None:
    account = Account()
    account.take(LIVE, batch(record(1), record(2), record(9)))
    account.tell_produced("gw", "r1", {"snow-1": 2}, is_final=True)
    assert only(account.report()).surplus == 1


def test_a_gap_names_what_is_lost_and_a_record_that_came_anyway_is_not() -> None:
    account = Account()
    account.take(LIVE, batch(record(1), record(4)))
    account.take(BACKLOG, batch(gap(2, 5), gap(6, 6, "corrupt"), record(7)))
    stream = only(account.report())
    assert stream.lost == {"spool_full": 3, "corrupt": 1}
    assert (stream.delivered, stream.missing, stream.duplicates) == (3, 0, 0)
    account.take(BACKLOG, batch(record(5), gap(2, 5)))
    stream = only(account.report())
    assert stream.lost == {"spool_full": 2, "corrupt": 1}
    assert (stream.delivered, stream.missing, stream.duplicates) == (4, 0, 1)


def test_order_is_kept_for_each_topic_and_redeliveries_do_not_break_it() -> None:
    account = Account()
    for topic, seq in ((LIVE, 7), (BACKLOG, 1), (BACKLOG, 2), (LIVE, 8), (BACKLOG, 1), (LIVE, 7)):
        account.take(topic, batch(record(seq)))
    assert only(account.report()).disordered == 0
    assert only(account.report()).duplicates == 2
    account.take(BACKLOG, batch(record(4), record(3)))
    assert only(account.report()).disordered == 1


def test_runs_and_gateways_have_numbers_of_their_own() -> None:
    account = Account()
    account.take(LIVE, batch(record(1)))
    account.take(LIVE, batch(record(1), run="r2"))
    account.take("yukimi/v1/gx/live/snow", batch(record(1), gateway="gx"))
    assert [stream.delivered for stream in account.report().streams] == [1, 1, 1]
    assert account.report().duplicates == 0


def test_a_compressed_batch_is_a_batch() -> None:
    account = Account()
    assert account.take(BACKLOG, zlib.compress(batch(record(1)))) == [record(1)]


@pytest.mark.parametrize(
    ("topic", "payload", "said"),
    [
        ("other/gw/live/snow", batch(record(1)), "not below yukimi/v1/"),
        ("yukimi/v1/gw", b"{}", "ends after the gateway"),
        (LIVE, b"", "not a JSON object"),
        (LIVE, b"[1]", "not a JSON object"),
        (LIVE, b"{\xff", "not JSON"),
        (LIVE, batch(record(1)).decode().encode("utf-16-be"), "not a JSON object"),
        (LIVE, batch(record(1, values=float("nan"))), "NaN"),
        (LIVE, b"\x78\x9cnonsense", "not zlib"),
        (LIVE, zlib.compress(batch(record(1)))[:-6], "cut short"),
        (LIVE, zlib.compress(b" " * 20_000_000), "too large"),
        (LIVE, b'{"a":' * 100_000, "not JSON"),
        (LIVE, batch(record(1), schema="yukimi.batch/2"), "schema"),
        (LIVE, batch(record(1), gateway="gx"), "gateway"),
        (LIVE, batch(record(1), kind="road"), "kind"),
        ("yukimi/v1/gw/live/rain", batch(record(1), kind="rain"), "KIND"),
        (LIVE, batch(record(1), run=""), "run"),
        (LIVE, batch(record(1), config=7), "config"),
        (LIVE, batch(), "records"),
        (LIVE, batch(7), "not an object"),
        (LIVE, batch(record(0)), "seq"),
        (LIVE, batch({"stream": "snow-1", "seq": True}), "seq"),
        (LIVE, batch({"seq": 1}), "stream"),
        (LIVE, batch(gap(3, 2)), "begins after its end"),
        (LIVE, batch(gap(1, 2, "dog_ate_it")), "unknown gap"),
        ("yukimi/v1/gw/health", b'{"schema":"yukimi.health/1","run":"r"}', "produced"),
    ],
)
def test_what_is_malformed_is_named_and_changes_nothing(
    topic: str, payload: bytes, said: str
) -> None:
    account = Account()
    assert account.take(topic, payload) == []
    report = account.report()
    assert report.streams == ()
    assert report.malformed == 1
    assert said in report.malformed_examples[0]
    assert any(said in line for line in report.lines())


def test_one_bad_record_does_not_spoil_its_neighbours() -> None:
    account = Account()
    assert account.take(LIVE, batch(record(1), {"seq": 2}, record(3))) == [record(1), record(3)]
    assert account.report().malformed == 1


def test_topics_that_carry_no_records_are_nobodys_error() -> None:
    account = Account()
    for topic in ("status", "alarm/snow-1/snow_dispatch", "receipt/r1/snow-1", "cmd/ping/1"):
        assert account.take(f"yukimi/v1/gw/{topic}", b"") == []
    assert account.report().malformed == 0
    assert account.report().messages == 4


def alarm(state: str = "raised", **more: Any) -> dict[str, Any]:
    bare = {"stream": "alerts", "seq": 3, "sensor": None, "alert": "spool_pressure", "id": "e1"}
    return bare | {"state": state} | more


def test_an_alert_is_counted_once_and_its_alarm_is_a_state() -> None:
    account = Account()
    first = alarm(seq=1)
    taken = account.take("yukimi/v1/gw/alert/gateway", batch(first, kind="gateway"))
    assert taken == [first]
    for topic, body in (
        ("alarm/gateway/spool_pressure", first),
        ("alarm/gateway/spool_pressure", alarm("updated", seq=2)),
        ("alarm/snow-1/snow_dispatch", alarm(sensor="snow-1", alert="snow_dispatch")),
    ):
        assert account.take(f"yukimi/v1/gw/{topic}", json.dumps(body).encode()) == []
    assert account.alarms("gw") == {
        "alarm/gateway/spool_pressure": alarm("updated", seq=2),
        "alarm/snow-1/snow_dispatch": alarm(sensor="snow-1", alert="snow_dispatch"),
    }
    account.take("yukimi/v1/gw/alarm/gateway/spool_pressure", b"")
    assert list(account.alarms("gw")) == ["alarm/snow-1/snow_dispatch"]
    assert account.alarms("gx") == {}
    assert (only(account.report()).stream, only(account.report()).delivered) == ("alerts", 1)
    assert account.report().malformed == 0


@pytest.mark.parametrize(
    ("topic", "body", "said"),
    [
        ("alarm/gateway", alarm(), "alarm/SENSOR/NAME"),
        ("alarm/gateway/", alarm(), "alarm/SENSOR/NAME"),
        ("alarm/gateway/id_clash", alarm(), "not that of the topic"),
        ("alarm/snow-1/spool_pressure", alarm(), "not that of the topic"),
        ("alarm/gateway/spool_pressure", alarm(sensor=7), "sensor"),
        ("alarm/gateway/spool_pressure", alarm("cleared"), "state"),
        ("alarm/gateway/spool_pressure", alarm(stream="snow-1"), "stream"),
        ("alarm/gateway/spool_pressure", alarm(id=""), "id"),
        ("alarm/gateway/spool_pressure", alarm(seq=0), "seq"),
        ("alarm/gateway/spool_pressure", [], "not a JSON object"),
    ],
)
def test_an_alarm_that_is_none_is_named_and_changes_nothing(
    topic: str, body: Any, said: str
) -> None:
    account = Account()
    before = json.dumps(alarm()).encode()
    account.take("yukimi/v1/gw/alarm/gateway/spool_pressure", before)
    account.take(f"yukimi/v1/gw/{topic}", json.dumps(body).encode())
    assert account.report().malformed == 1
    assert said in account.report().malformed_examples[0]
    assert account.alarms("gw") == {"alarm/gateway/spool_pressure": alarm()}


@given(st.text(max_size=30), st.binary(max_size=60))
def test_no_message_raises(topic: str, payload: bytes) -> None:
    account = Account()
    for each in (
        topic,
        f"yukimi/v1/{topic}",
        LIVE,
        "yukimi/v1/gw/health",
        "yukimi/v1/gw/alarm/a/b",
    ):
        account.take(each, payload)
        account.take(each, zlib.compress(payload))
    json.dumps(account.report().to_json())


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["stream", "seq", "first", "gap", "values", "previous", "run"]), inner
        )
    ),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=4), st.sampled_from(["snow-1", "gateway"]))
def test_no_record_raises(records: list[Any], stream: str) -> None:
    account = Account()
    records += [{"stream": stream, "seq": 1, **each} for each in records if isinstance(each, dict)]
    taken = account.take(LIVE, batch(*records))
    report = account.report()
    assert len(taken) + report.malformed == max(1, len(records))


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 6))))
def test_numbers_are_a_set(spans: list[tuple[int, int]]) -> None:
    numbers, truth = Numbers(), set[int]()
    for first, length in spans:
        added = set(range(first, first + length + 1))
        new = numbers.add(first, first + length)
        assert {n for a, b in new for n in range(a, b + 1)} == added - truth
        truth |= added
    assert len(numbers) == len(truth)
    assert {n for n in range(60) if n in numbers} == truth
    ranges = list(numbers.ranges())
    assert all(b + 1 < c for (_, b), (c, _) in pairwise(ranges))
    assert {n for a, b in numbers.holes(1, 50) for n in range(a, b + 1)} == set(
        range(1, 51)
    ) - truth


def test_a_million_records_in_order_are_one_range() -> None:
    numbers = Numbers()
    for seq in range(1, 1_000_001):
        numbers.add(seq, seq)
    assert list(numbers.ranges()) == [(1, 1_000_000)]


FATES = st.lists(
    st.tuples(st.sampled_from(["delivered", "twice", "gap", "missing"]), st.integers(0, 2)),
    max_size=60,
)


@given(FATES, st.randoms(use_true_random=False), st.booleans())
def test_the_account_of_a_random_delivery_is_exact(
    fates: list[tuple[str, int]], random: Any, deflate: bool
) -> None:
    """Each number has a fate; messages come in any order, cut into any batches."""
    reasons = ("spool_full", "corrupt", "rejected")
    entries: list[dict[str, Any]] = []
    for seq, (fate, why) in enumerate(fates, start=1):
        if fate == "gap":
            entries.append(gap(seq, seq, reasons[why]))
        elif fate != "missing":
            entries += [record(seq)] * (2 if fate == "twice" else 1)
    random.shuffle(entries)
    account, disordered, newest, seen = Account(), 0, 0, set[int]()
    while entries:
        cut = random.randint(1, 5)
        head, entries = entries[:cut], entries[cut:]
        payload = batch(*head)
        assert account.take(LIVE, zlib.compress(payload) if deflate else payload) == head
        for entry in head:
            disordered += entry["seq"] < newest and entry["seq"] not in seen
            newest = max(newest, entry["seq"])
            seen.add(entry["seq"])
    account.tell_produced("gw", "r1", {"snow-1": len(fates)}, is_final=True)
    stream = only(account.report())
    named = [fate for fate, _ in fates]
    assert stream.produced == len(fates)
    assert stream.delivered == named.count("delivered") + named.count("twice")
    assert stream.duplicates == named.count("twice")
    assert stream.missing == named.count("missing")
    assert stream.disordered == disordered
    for n, reason in enumerate(reasons):
        assert stream.lost.get(reason, 0) == fates.count(("gap", n))
    assert stream.produced == stream.delivered + stream.lost_count + stream.missing
    assert json.loads(json.dumps(account.report().to_json()))["missing"] == stream.missing


# The wire to it.


@pytest.fixture(params=["mosquitto", "embedded"])
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    if request.param == "mosquitto":
        need_mosquitto()
    made: Broker = Mosquitto() if request.param == "mosquitto" else EmbeddedBroker()
    with made as broker:
        yield broker


def publish(broker: Broker, topic: str, payload: bytes) -> None:
    """Publish once, and return when the broker has acknowledged it."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


def came(seq: int) -> Any:
    return lambda account: seq in account.delivered("gw", "r1", "snow-1")


def protocol_of(broker: Broker) -> Literal[5, 311]:
    return 5 if broker.speaks_mqtt5 else 311


def test_the_city_hears_what_is_published(broker: Broker) -> None:
    heard: list[tuple[str, int]] = []
    with City(
        broker.host,
        broker.port,
        protocol=protocol_of(broker),
        on_message=lambda topic, payload, records: heard.append((topic, len(records))),
    ) as city:
        city.wait_subscribed()
        publish(broker, LIVE, batch(record(1), record(2)))
        assert city.wait_for(came(2), 60)
        assert not city.wait_for(came(3), 0)
    assert heard == [(LIVE, 2)]
    assert city.report().delivered == 2


def test_the_city_comes_back_after_a_killed_broker_and_a_cut_network(broker: Broker) -> None:
    with (
        Relay(broker.host, broker.port) as relay,
        City(relay.host, relay.port, protocol=protocol_of(broker)) as city,
    ):
        city.wait_subscribed()
        publish(broker, LIVE, batch(record(1)))
        assert city.wait_for(came(1), 60)
        for seq, (cut, mend) in enumerate(
            ((relay.cut, relay.resume), (broker.kill, broker.start), (relay.reset, lambda: None)),
            start=2,
        ):
            cut()
            mend()
            while not city.wait_for(came(seq), 0.2):
                city.wait_subscribed()
                publish(broker, LIVE, batch(record(seq)))
    assert city.report().missing == 0


def test_a_kept_session_holds_what_came_while_the_city_was_away() -> None:
    need_mosquitto()
    for protocol in (5, 311):
        with Mosquitto() as broker:
            city = City(broker.host, broker.port, protocol=protocol, keep_session=True)
            with city:
                city.wait_subscribed()
            publish(broker, LIVE, batch(record(1)))
            with city:
                assert city.wait_for(came(1), 60)


def test_a_city_whose_node_dies_goes_to_the_next() -> None:
    need_mosquitto()
    with Mosquitto() as first, Mosquitto() as second:
        city = City(first.host, first.port, also=[(second.host, second.port)])
        with city:
            city.wait_subscribed()
            publish(first, LIVE, batch(record(1)))
            assert city.wait_for(came(1), 60)
            first.kill()
            while not city.wait_for(came(2), 0.2):
                publish(second, LIVE, batch(record(2)))


def test_a_city_without_a_broker_says_so_and_stops() -> None:
    with Relay("127.0.0.1", 9) as relay:
        relay.cut()
        with City(relay.host, relay.port) as city, pytest.raises(TimeoutError, match="refused"):
            city.wait_subscribed(0.2)
