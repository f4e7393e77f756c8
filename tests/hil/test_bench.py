"""The delivery bench: its arithmetic, its table, and one small run that shows what it finds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agent.record import batch, deflated
from hil.__main__ import main
from hil.bench import BENCHES, alerts, delivery, kills
from hil.bench.delivery import FIGURES, KEYS, Scale, first_live_s, measure
from hil.bench.ear import Heard
from hil.bench.figures import Figure, document, shown, table
from hil.bench.mqtt import MQTT_5, MQTT_311, PUBACK, PUBLISH, Packet, Splitter
from hil.bench.site import STREAMS, windows
from hil.bench.wire import Segment, weigh, wire_bytes
from hil.broker import MOSQUITTO

TINY = Scale(
    records=2000, repeats=1, settle_s=1.0, appends=40, outage_s=30, running_s=60, wire_records=400,
    kill_records=400,
)  # fmt: skip
AT_NS = 1_800_000_000 * 10**9
SHORT = frozenset(KEYS) - {"disk_mb_per_hour", "wire_b_per_record", "wire_other_b_per_hour"}


def need_root_and_mosquitto() -> None:
    missing = "" if os.geteuid() == 0 else "not root"
    if not Path(MOSQUITTO).exists():
        missing = f"no {MOSQUITTO}: apt install mosquitto"
    if missing:
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)


def publish(lane: str, payload: bytes, properties: bytes = b"\x00") -> bytes:
    """Return the bytes of a PUBLISH with QoS 1."""
    topic = f"yukimi/v1/bench/{lane}".encode()
    body = len(topic).to_bytes(2, "big") + topic + b"\x00\x07" + properties + payload
    length = bytes((len(body) % 128 | 0x80, len(body) // 128))
    return b"\x32" + length + body


BATCH = batch("bench", "r", "snow", "c", [r.body(1) for r in windows(STREAMS, end_ns=AT_NS)])
ACK = b"\x40\x02\x00\x07"


@pytest.mark.parametrize(
    ("payload_bytes", "expected_bytes"),
    [
        (0, 52),  # a bare acknowledgement
        (1, 53),
        (1448, 1448 + 52),
        (1449, 1449 + 2 * 52),  # two segments, one acknowledgement: loopback's own
        (2 * 1448 + 1, 2 * 1448 + 1 + 3 * 52 + 52),  # three, and the second acknowledgement
        (10 * 1448, 10 * 1448 + 10 * 52 + 4 * 52),
    ],
)
def test_a_packet_of_loopback_costs_what_its_segments_would(
    payload_bytes: int, expected_bytes: int
) -> None:
    assert wire_bytes(payload_bytes) == expected_bytes


def test_records_and_their_acknowledgements_are_told_from_the_rest() -> None:
    message, health = publish("live/snow", BATCH), publish("health", b"{}")
    traffic = weigh(
        [
            Segment(True, b"", 60, opens_or_ends=True),
            Segment(True, health),
            Segment(False, b""),
            Segment(True, message[:100]),
            Segment(True, message[100:]),
            Segment(False, ACK),
            Segment(True, b""),
        ],
        "live",
    )
    assert (traffic.records, traffic.messages) == (STREAMS, 1)
    assert traffic.other_bytes == 60 + wire_bytes(len(health)) + 52
    assert traffic.record_bytes == (
        wire_bytes(100) + wire_bytes(len(message) - 100) + wire_bytes(len(ACK)) + 52
    )
    assert traffic.b_per_record == traffic.record_bytes / STREAMS


def test_health_that_leaves_with_records_is_no_record() -> None:
    message, health = publish("live/snow", BATCH), publish("health", b"{}")
    traffic = weigh([Segment(True, message + health)], "live")
    assert traffic.other_bytes == len(health)
    assert traffic.record_bytes == wire_bytes(len(message) + len(health)) - len(health)


def test_another_lane_is_not_counted() -> None:
    traffic = weigh([Segment(True, publish("live/gateway", BATCH))], "backlog")
    assert (traffic.records, traffic.record_bytes) == (0, 0)
    with pytest.raises(delivery.BenchError, match="no record"):
        _ = traffic.b_per_record


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_packets_are_found_however_the_stream_is_sliced(step: int) -> None:
    stream = publish("backlog/road", deflated(BATCH), b"\x03\x01\x02\x03") + ACK
    splitter = Splitter(MQTT_5)
    found = [
        packet
        for at in range(0, len(stream), step)
        for packet in splitter.feed(stream[at : at + step])
    ]
    assert [packet.kind for packet in found] == [PUBLISH, PUBACK]
    assert (found[0].lane, found[0].plain, found[0].records) == ("backlog", BATCH, STREAMS)


def test_a_topic_without_a_lane_holds_no_records() -> None:
    (packet,) = Splitter(MQTT_311).feed(publish("status", BATCH, b""))
    assert (packet.lane, packet.records) == ("", 0)


def test_the_records_are_those_of_eight_sensors_in_windows_that_follow_each_other() -> None:
    records = list(windows(3 * STREAMS - 1, end_ns=AT_NS))
    assert len(records) == 3 * STREAMS - 1
    first, second = records[:STREAMS], records[STREAMS : 2 * STREAMS]
    assert [each.stream for each in first] == [each.stream for each in second]
    assert len({each.stream for each in first}) == STREAMS
    assert {each.end_ns for each in first} == {each.start_ns for each in second}
    assert records[-1].end_ns == AT_NS


def test_what_comes_in_one_read_with_the_birth_came_after_it() -> None:
    def heard(at_s: float, topic: str, payload: bytes) -> Heard:
        return Heard(at_s, Packet(PUBLISH, f"yukimi/v1/bench/{topic}", payload))

    def live(stream: str) -> bytes:
        return json.dumps({"records": [{"stream": stream}]}).encode()

    birth = heard(5.0, "status", b'{"state":"online"}')
    messages = [
        heard(5.0, "live/road", live("before")),
        birth,
        heard(5.0, "live/snow", live("snow-1")),
        heard(6.5, "live/road", live("road-1")),
        heard(9.0, "live/road", live("road-1")),
    ]
    assert first_live_s(messages, birth) == {"snow-1": 0.0, "road-1": 1.5}


def test_the_table_says_who_passes_and_who_misses() -> None:
    figures = (
        Figure("a_per_s", "", 100, at_least=True, peers="others 7"),
        Figure("b_mb", "", 2.0),
        Figure("c_b", ""),
        Figure("not_measured", "", 1),
    )
    lines = table(figures, {"a_per_s": 123456, "b_mb": 2.5, "c_b": 7})
    assert [line.split() for line in lines[1:]] == [
        ["a_per_s", "123,456", ">=", "100", "pass", "others", "7"],
        ["b_mb", "2.5", "<=", "2", "MISS"],
        ["c_b", "7"],
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1234567, "1,234,567"), (0.0289, "0.0289"), (45.43, "45.4")]
)
def test_a_figure_is_shown_with_three_digits_that_count(value: float, text: str) -> None:
    assert shown(value) == text


def test_the_document_holds_the_figures_and_nothing_else() -> None:
    assert json.loads(document({"a": 1.5})) == {"schema": "yukimi.bench/1", "figures": {"a": 1.5}}


def test_help_lists_the_benches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "--help"])
    assert ended.value.code == 0
    words = capsys.readouterr().out.split()
    assert set(BENCHES) <= set(words)


def test_an_unknown_figure_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "delivery", "--only", "speed"])
    assert ended.value.code == 2
    assert "speed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_small_run_gives_every_figure_and_loses_nothing() -> None:
    need_root_and_mosquitto()
    values = measure(SHORT, TINY, lambda _: None)
    assert list(values) == [key for key in KEYS if key in SHORT]
    assert values["lost_after_kill"] == 0
    assert all(values[key] > 0 for key in ("drain_records_per_s", "drain_ratio_to_paho"))
    assert 10 < values["wire_b_per_record_backlog"] < 1000


@pytest.mark.slow
def test_a_spool_that_is_gone_after_a_kill_shows_as_lost(tmp_path: Path) -> None:
    need_root_and_mosquitto()

    killed: list[Path] = []

    def burn_at_the_last_kill(spool: Path) -> None:
        killed.append(spool)
        if len(killed) in (1, 1 + len(kills.KILLED_AT), 3 + len(kills.KILLED_AT)):
            for file in spool.parent.glob(f"{spool.name}*"):
                file.unlink()

    outcome = kills.measure(
        tmp_path, 400, lambda _: None, patience_s=2.0, after_kill=burn_at_the_last_kill
    )
    assert outcome.lost > 400  # all that one gateway had, and what the others had not sent yet
    assert outcome.expected > 3 * 400


@pytest.mark.slow
def test_each_change_of_a_door_is_timed() -> None:
    need_root_and_mosquitto()
    values = alerts.measure(6, lambda _: None)
    assert list(values) == [figure.key for figure in alerts.FIGURES]
    assert 0 < values["alert_p50_ms"] <= values["alert_p99_ms"] <= values["alert_max_ms"]


def test_every_figure_has_a_key_of_its_own() -> None:
    assert len(set(KEYS)) == len(FIGURES)
