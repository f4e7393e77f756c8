"""The canary's search: what must be found is, in every form; what is there by chance is not."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sqlite3
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from agent.privacy.sampler import discrete_laplace
from agent.spoolfile import PAGE_SIZE
from hil.canary.counts import Reader
from hil.canary.links import Numbers, bound
from hil.canary.pattern import JITTER_NS, MOST, PINS, PULSE_NS, SEAM_NS, WAYS, Pattern, S
from hil.canary.search import ALPHA, Pieces, Times, unfold
from hil.canary.site import Crossed, Evidence, Message, parts, published
from hil.canary.truth import Figures, Truth, strangers

UTC_NS = 1_795_902_700 * S  # what second 0 of the pattern is
BOOT_NS = 692 * S
SECONDS = 40
PATTERN = Pattern(1, BOOT_NS)
CROSSED = [
    Crossed(beat.sensor, beat.way, beat.at_ns, beat.at_ns - BOOT_NS + UTC_NS)
    for number in range(SECONDS)
    for beat in PATTERN.second(number)
]


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.of(Evidence(PATTERN, crossed=CROSSED))


# The pattern


def test_a_second_is_the_same_whenever_it_is_asked_for() -> None:
    assert PATTERN.second(7) == Pattern(1, BOOT_NS).second(7)
    assert PATTERN.second(7) != Pattern(2, BOOT_NS).second(7)


def test_no_pulse_is_near_a_seam_and_none_touches_another() -> None:
    for number in range(50):
        pins = defaultdict(list)
        for beat in PATTERN.second(number):
            since_ns = beat.begin_ns - PATTERN.origin_ns - number * S
            assert SEAM_NS <= since_ns <= S - SEAM_NS - PULSE_NS
            pins[beat.sensor, beat.way].append(beat.begin_ns)
        assert all(len(each) <= MOST for each in pins.values())
        for begins in pins.values():
            pauses = [b - a - PULSE_NS for a, b in pairwise(begins)]
            assert min(pauses, default=PULSE_NS) >= 20_000_000 - JITTER_NS - PULSE_NS


def test_edges_begin_after_the_moment_that_is_asked_for() -> None:
    from_ns = BOOT_NS + 3 * S + S // 2
    edges = PATTERN.edges(from_ns)
    times = [next(edges)[0] for _ in range(2000)]
    assert times == sorted(times)
    assert times[0] > from_ns
    assert times[-1] > from_ns + 2 * S


def test_the_truth_is_what_was_heard_and_whole_seconds_are_the_patterns(truth: Truth) -> None:
    assert len(truth.whole) == SECONDS
    assert sum(truth.of_all()["all"].values()) == len(CROSSED)
    evidence = Evidence(PATTERN, crossed=CROSSED[:-1])
    assert len(Truth.of(evidence).whole) == SECONDS - 1
    assert strangers(evidence) == 0
    last = CROSSED[-1]
    evidence.crossed.append(Crossed(last.sensor, last.way, last.boot_ns + 3 * 10**6, last.utc_ns))
    assert strangers(evidence) == 1


# Frames

FRAME = random.Random(1).randbytes(30)
Wrap = Callable[[bytes], bytes]
WRAPS: dict[str, Wrap] = {
    "plain": lambda frame: frame,
    "hexadecimal": lambda frame: frame.hex().encode(),
    "capitals, one digit off": lambda frame: b"f" + frame.hex().upper().encode(),
    "spaced": lambda frame: frame.hex(" ").encode(),
    "base64": base64.b64encode,
    "base64 of a web address": base64.urlsafe_b64encode,
    "base64, one byte off": lambda frame: base64.b64encode(b"x" + frame),
    "Python's repr": lambda frame: repr(frame).encode(),
    "a list": lambda frame: json.dumps(list(frame)).encode(),
    "JSON": lambda frame: json.dumps(frame.decode("latin-1")).encode(),
    "deflated": zlib.compress,
    "in gzip": gzip.compress,
    "deflated hexadecimal": lambda frame: zlib.compress(frame.hex().encode()),
    "deflated, in base64": lambda frame: base64.b64encode(zlib.compress(frame)),
}


def found(frame: bytes, data: bytes) -> bool:
    together = (b"\n" * 16).join(unfold(data))
    return Pieces([frame]).find(together) == {frame}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
def test_a_frame_is_found_in_every_form(wrap: Wrap) -> None:
    dice = random.Random(2)
    around = dice.randbytes(1001), dice.randbytes(1000)
    wrapped = wrap(FRAME)
    for before in (around[0] + b"\n", around[0] + b"\n" * 4):
        assert found(FRAME, before + wrapped + b"\n" + around[1])
    assert not found(FRAME, around[0] + wrap(FRAME[:-1] + b"\0") + around[1])


@pytest.mark.parametrize("written", [json.dumps, repr, lambda row: str(np.array(row))])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_a_picture_is_found_in_its_temperatures(
    written: Callable[[list[float]], str], steps: int
) -> None:
    dice = random.Random(4)
    picture = [dice.randrange(60, 120) for _ in range(16)]
    sent = struct.pack("<16h", *picture)
    text = f"image={written([each / steps for each in picture])} sensor=hall-1"
    assert found(sent[:16], text.encode())
    assert not found(sent[:16][::-1], text.encode())


def test_a_deflated_frame_is_found_where_its_stream_is_torn() -> None:
    text = json.dumps(random.Random(3).sample(range(10_000), 2000)).encode()
    stream = zlib.compress(FRAME + text)
    assert FRAME not in stream
    assert found(FRAME, b"x" + stream[:900] + random.Random(4).randbytes(200))


def test_a_frame_is_found_in_a_page_that_nothing_refers_to(tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA secure_delete = OFF")  # Debian's own default is ON
        database.execute("CREATE TABLE kept (body)")
        database.execute("INSERT INTO kept VALUES (?)", (FRAME + bytes(3000),))
        database.execute("DELETE FROM kept")
        assert database.execute("SELECT count(*) FROM kept").fetchone() == (0,)
    assert found(FRAME, file.read_bytes())


# Times

TIMES = {
    "seconds": lambda c: f"{c.boot_ns / 1e9:.6f}".encode(),
    "milliseconds": lambda c: str(c.boot_ns // 10**6).encode(),
    "rounded milliseconds": lambda c: f"{c.utc_ns / 1e6:.0f}".encode(),
    "microseconds": lambda c: str(c.utc_ns // 10**3).encode(),
    "nanoseconds": lambda c: str(c.boot_ns).encode(),
    "ISO 8601": lambda c: (
        datetime.fromtimestamp(c.utc_ns // 10**6 / 1e3, UTC)
        .isoformat(timespec="milliseconds")
        .encode()
    ),
    "eight bytes": lambda c: struct.pack(">q", c.utc_ns),
    "eight bytes, little end first": lambda c: struct.pack("<q", c.boot_ns // 1000),
    "six bytes": lambda c: struct.pack(">q", c.boot_ns)[2:],
    "a double": lambda c: struct.pack("<d", c.boot_ns / 1e9),
    "a double of milliseconds": lambda c: struct.pack(">d", c.utc_ns / 1e6),
}


def least_chance(pieces: list[bytes]) -> tuple[float, int]:
    """Return the least probability of any form, and how many forms there are."""
    times = Times({"boot": [c.boot_ns for c in CROSSED], "UTC": [c.utc_ns for c in CROSSED]})
    excesses = times.excesses(times.written(b" in ".join(pieces)))
    return min(each.chance for each in excesses), len(excesses)


@pytest.mark.parametrize("form", TIMES)
def test_two_hundred_crossings_are_found_among_five_hundred_other_times(form: str) -> None:
    dice, written = random.Random(form), TIMES[form]
    others = [
        Crossed("", "towards", BOOT_NS + at_ns, UTC_NS + at_ns)
        for at_ns in (dice.randrange(SECONDS * S) for _ in range(500))
    ]
    chance, forms = least_chance([written(each) for each in others])
    assert chance > ALPHA / forms, "honest times are not suspected"
    chance, forms = least_chance([written(each) for each in others + dice.sample(CROSSED, 200)])
    assert chance < ALPHA / forms


def test_two_crossings_to_the_nanosecond_are_enough() -> None:
    chance, forms = least_chance([str(each.utc_ns).encode() for each in CROSSED[100:102]])
    assert chance < ALPHA / forms


def test_a_crossing_in_a_column_is_found(tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("PRAGMA secure_delete = OFF")
        database.execute("CREATE TABLE seen (at_ns)")
        rows = [(each.boot_ns,) for each in CROSSED[100:110]]
        database.executemany("INSERT INTO seen VALUES (?)", rows)
        database.execute("DELETE FROM seen")
    chance, forms = least_chance([file.read_bytes()])
    assert chance < ALPHA / forms


# Counts


def least_gap(numbers: Numbers, truth: Truth) -> float:
    """Return by how much the closest link passes the bound."""
    links = numbers.links(truth)
    return max(link.z for link in links) - bound(links)


def test_numbers_of_no_meaning_follow_nothing(truth: Truth) -> None:
    dice, numbers = random.Random(1), Numbers()
    for at in range(40):
        for name in PINS:
            numbers.windows[name, f"wire {at}"] = {s: dice.random() for s in truth.whole}
        numbers.moments[f"health {at}", 0] = {s: round(10 * dice.random()) for s in truth.whole}
        numbers.moments[f"grows {at}", 0] = {s: s + dice.random() for s in truth.whole}
    assert least_gap(numbers, truth) < 0


@pytest.mark.parametrize("lag_s", [0, 3])
def test_a_number_that_follows_the_count_is_found(truth: Truth, lag_s: int) -> None:
    dice, numbers = random.Random(1), Numbers()
    true = truth.of_all()["counter-5"]
    numbers.moments["bytes", 0] = {s + lag_s: 80 * n + dice.gauss(0, 200) for s, n in true.items()}
    assert least_gap(numbers, truth) > 0


def test_a_number_that_is_the_count_every_other_time_is_found(truth: Truth) -> None:
    dice, numbers = random.Random(1), Numbers()
    for second, count in truth.of_all()["counter-5"].items():
        is_told = second % 2
        numbers.moments["events", 0][second] = count if is_told else dice.randrange(48)
    (found,) = [link for link in numbers.links(truth) if link.z > bound(numbers.links(truth))]
    assert found.counts == "counter-5"
    assert found.how.startswith("is ")


def test_a_total_that_grows_with_the_count_is_found(truth: Truth) -> None:
    numbers, total = Numbers(), 0.0
    for second, count in sorted(truth.of_all()["all"].items()):
        total += count
        numbers.moments["events", 0][second] = total
    assert least_gap(numbers, truth) > 0


def test_what_each_counter_tells_a_little_of_is_found_in_all_together(truth: Truth) -> None:
    dice, numbers = random.Random(1), Numbers()
    for name in PINS:
        true = truth.of_sensor(name)[f"{name} away"]
        numbers.windows[name, "n"] = {s: n + dice.gauss(0, 8) for s, n in true.items()}
    alone = Numbers(windows={("counter-0", "n"): numbers.windows["counter-0", "n"]})
    assert least_gap(numbers, truth) > 0
    assert least_gap(alone, truth) < 0


Document = dict[str, object]


def record(sensor: str, second: int, values: Document, **more: object) -> Document:
    def at(second: int) -> str:
        moment = datetime.fromtimestamp(UTC_NS // S + second, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")

    quality = {"flag": "good", "n": 1, "expected": 1}
    times = {"start": at(second), "end": at(second + 1)}
    return {"stream": sensor, "seq": second} | times | {"quality": quality, "values": values} | more


def figure(unclamped: int) -> dict[str, object]:
    return {"count": max(0, unclamped), "unclamped": unclamped}


def message(records: list[dict[str, object]]) -> Message:
    return Message(UTC_NS + 3 * S, "live/people", json.dumps({"records": records}).encode())


def test_released_figures_are_taken_out_and_nothing_else_is(truth: Truth) -> None:
    reader = Reader(truth)
    values = {"towards": figure(-3), "away": figure(12), "true": 7, "noise_sd": 5.64}
    reader.messages([message([record("counter-1", 5, values)])])
    second = UTC_NS // S + 5
    assert reader.numbers.released == {
        ("counter-1", "towards", second): -3,
        ("counter-1", "away", second): 12,
    }
    told = {path: series[second] for (_, path), series in reader.numbers.windows.items()}
    assert told["wire values.true"] == 7
    assert not [path for path in told if "towards" in path or "away" in path]


def test_a_window_without_figures_is_read(truth: Truth) -> None:
    reader = Reader(truth)
    burned = {"flag": "missing", "n": 0, "expected": 1, "reasons": ["burned"]}
    values: dict[str, object] = {"towards": None, "away": None, "epsilon": "1/4"}
    reader.messages([message([record("counter-1", 5, values, quality=burned)])])
    assert not reader.numbers.released
    assert reader.numbers.windows["counter-1", "wire quality.n"] == {UTC_NS // S + 5: 0}


def test_two_noises_of_one_window_are_found(truth: Truth) -> None:
    reader = Reader(truth)
    for unclamped in (12, 12, 13):
        reader.messages([message([record("counter-1", 5, {"towards": figure(unclamped)})])])
        twice = bool(reader.numbers.twice)
        assert twice == (unclamped == 13)


def test_the_digits_of_a_figure_are_no_size_and_what_is_hidden_beside_it_is(truth: Truth) -> None:
    sizes = []
    told = ({"towards": figure(5)}, {"towards": figure(123)}, {"towards": figure(5), "x": 1})
    for values in told:
        reader = Reader(truth)
        reader.messages([message([record("counter-1", 5, values)])])
        sizes.append(reader.numbers.moments["live bytes", 0][UTC_NS // S + 3])
    assert sizes[0] == sizes[1] < sizes[2]


def test_an_answer_is_read_but_for_what_was_released(truth: Truth) -> None:
    known = record("counter-1", 5, {"towards": figure(9), "noise_sd": 5.64})
    crowd = {"sensor": "counter-1", "alert": "crowding", "text": {"en": "about 55"}}
    answer: Document = {
        "uptime_s": 7.5,
        "alerts": [crowd],
        "uplink": {"lanes": {"alert": {"records_waiting": 1}, "live": {"records_waiting": 20}}},
        "sensors": [{"id": "counter-1", "state": "ok", "record": known}],
    }
    reader = Reader(truth)
    reader.answers([(UTC_NS, answer)])
    numbers, second = reader.numbers, UTC_NS // S
    assert numbers.released == {("counter-1", "towards", second + 5): 9}
    told = {path for path, half_ns in numbers.moments if not half_ns}
    assert told >= {"socket uptime_s", "socket uplink.lanes.live.records_waiting"}
    assert not [path for path in told if "alert" in path or "record." in path]


def test_lines_and_their_numbers_are_taken_down(truth: Truth) -> None:
    reader = Reader(truth)
    at = datetime.fromtimestamp(UTC_NS // S, UTC).isoformat().replace("+00:00", ".25Z")
    reader.log(f'timestamp={at} level=debug event="window closed" sensor=counter-2 n=17\n' * 3)
    moments = reader.numbers.moments
    assert moments["log lines", 0][UTC_NS // S] == 3
    assert moments["log 'window closed' counter-2 n", 0] == {UTC_NS // S: 17}


def test_honest_noise_is_as_often_zero_as_by_chance_and_other_noise_is_not() -> None:
    dice, epsilon = random.Random(1), Fraction(1, 4)
    honest = [discrete_laplace(epsilon, dice.randrange) for _ in range(1000)]
    assert Figures(honest).chance(0.25) > ALPHA
    assert Figures([0] * 300 + honest).chance(0.25) < ALPHA
    assert Figures([each for each in honest if each]).chance(0.25) < ALPHA, "too seldom"


# The wire and the files


def test_a_database_and_its_wal_are_cut_into_pages_and_nothing_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "spool.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE kept (body)")
        for number in range(20):
            database.execute("INSERT INTO kept VALUES (?)", (f"{number}" * 100,))
        wal = file.with_name("spool.db-wal").read_bytes()
        before = parts(wal)
        database.execute("INSERT INTO kept VALUES (1)")
        after = parts(file.with_name("spool.db-wal").read_bytes())
    pages = parts(file.read_bytes())
    assert b"".join(pages) == file.read_bytes()
    assert {len(page) for page in pages} == {PAGE_SIZE}
    assert b"".join(before) == wal
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert parts(b'{"schema":1}') == [b'{"schema":1}']


def test_a_message_is_cut_out_of_its_packet() -> None:
    topic = b"yukimi/v1/canary/live/people"
    properties = bytes((3, 0x01, 1, 0x23))
    body = len(topic).to_bytes(2, "big") + topic + b"\0\7" + properties + b'{"records":[]}'
    sent = published(0x32, body)
    assert sent is not None
    assert (sent.topic, sent.payload) == ("live/people", b'{"records":[]}')
    assert published(0x40, b"\0\7") is None


def test_the_ways_of_the_pattern_are_those_of_the_counters() -> None:
    seen = Counter(each.way for each in CROSSED)
    assert set(seen) == set(WAYS)
