"""D6T: frames that prove themselves in either way, and slow doors counted with few pixels."""

from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import (
    PEOPLE_REASONS,
    Alive,
    BusError,
    Crossing,
    Driver,
    Found,
    FrameError,
    Observation,
    Recognises,
    Trouble,
)
from drivers.checksums import crc8_smbus
from drivers.d6t import (
    INITIAL_SETTINGS,
    MODELS,
    PEC_HEADS,
    D6t,
    D6tOptions,
    decode_frame,
    is_covered,
    pec_style,
)
from hil.buses import SimulatedI2c
from hil.devices.d6t import D6tDevice, Doorway, Visitor

S = 1_000_000_000
ALL_MODELS = sorted(MODELS)
SQUARE, ROW = MODELS["44L-06"], MODELS["8L-09"]

Counts = list[tuple[float, str]]  # seconds, direction


def frame(*raw: int, style: str = "stop") -> bytes:
    """A frame of words, the sensor's own temperature first, with its PEC."""
    body = struct.pack(f"<{len(raw)}h", *raw)
    return body + bytes((crc8_smbus(PEC_HEADS[style] + body),))


@dataclass
class Bench:
    """A simulated sensor over a door, its driver, and a clock that polls turn on."""

    scene: Doorway = field(default_factory=Doorway)
    options: dict[str, Any] = field(default_factory=dict)
    pec_covers_command: bool = False
    now_ns: int = 100 * S

    def __post_init__(self) -> None:
        options = D6tOptions.model_validate({"model": "44L-06", **self.options})
        self.device = D6tDevice(
            self.scene, options.model, pec_covers_command=self.pec_covers_command, seed=1
        )
        self.bus = SimulatedI2c({0x0A: self.device}, lambda: self.now_ns / S)
        self.bus.open()
        self.driver = D6t(self.bus, options, lambda: self.now_ns)
        self.driver.open()
        self.errors: list[str] = []

    def run(self, seconds: float) -> list[Observation]:
        """Poll on schedule; note errors, and open again after one of the bus."""
        observed: list[Observation] = []
        until_ns = self.now_ns + round(seconds * S)
        while self.now_ns < until_ns:
            try:
                observed += self.driver.poll()
            except FrameError as exc:
                self.errors.append(str(exc))
            except BusError as exc:
                self.errors.append(str(exc))
                with suppress(BusError):
                    self.driver.open()
            self.now_ns += round(self.driver.interval_s * S)
        return observed


def crossings(observed: Iterable[Observation]) -> Counts:
    return [(o.at_boot_ns / S - 100.0, o.direction) for o in observed if isinstance(o, Crossing)]


def ways(*visitors: Visitor, **options: Any) -> list[str]:
    bench = Bench(Doorway(visitors), options)
    return [way for _, way in crossings(bench.run(20))]


def compare(truth: Sequence[tuple[float, str]], counts: Counts) -> tuple[int, int]:
    """Match event by event, within two seconds; return how many were found, and false ones."""
    false = list(counts)
    found = 0
    for at_s, way in truth:
        near = [c for c in false if c[1] == way and abs(c[0] - at_s) <= 2.0]
        if near:
            false.remove(min(near, key=lambda c: abs(c[0] - at_s)))
            found += 1
    return found, len(false)


# Frames.


def test_rebuilt_frames_prove_themselves_in_both_ways(recordings: Path) -> None:
    frames = json.loads((recordings / "d6t/rebuilt_frames_with_pec.json").read_text())
    assert len(frames) == 3
    for each in frames:
        for style, key in (("stop", "pec_stop_start"), ("repeated", "pec_repeated_start")):
            whole = bytes.fromhex(each["bytes"] + each[key])
            pixels_c, found = decode_frame(whole, SQUARE)
            assert found == style
            assert pixels_c.shape == (4, 4)
            words = struct.unpack("<17h", bytes.fromhex(each["bytes"]))
            assert (10 * pixels_c).ravel().tolist() == pytest.approx(words[1:])
            assert decode_frame(whole, SQUARE, style)[1] == style
            with pytest.raises(FrameError, match="wrong PEC"):
                decode_frame(whole, SQUARE, "repeated" if style == "stop" else "stop")


def test_the_initial_settings_are_omrons_with_their_pec() -> None:
    assert [each.hex(" ") for each in INITIAL_SETTINGS] == [
        "02 00 01 ee",
        "05 90 3a b8",
        "03 00 03 8b",
        "03 00 07 97",
        "02 00 00 e9",
    ]
    assert all(crc8_smbus(b"\x14" + each[:-1]) == each[-1] for each in INITIAL_SETTINGS)


def test_temperatures_are_the_manuals() -> None:
    body = bytes.fromhex("FA00FA0006FF") + bytes.fromhex("0000") * 6
    pixels_c, _ = decode_frame(body + bytes((crc8_smbus(b"\x15" + body),)), ROW)
    assert pixels_c.shape == (1, 8)
    assert pixels_c[0, :3].tolist() == pytest.approx([25.0, -25.0, 0.0])


def test_the_8l_09h_counts_in_fifths_of_a_degree() -> None:
    pixels_c, _ = decode_frame(frame(250, *[125] * 8), MODELS["8L-09H"])
    assert pixels_c[0, 0] == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (frame(*[250] * 17)[:-1], "34 bytes in place of 35"),
        (frame(*[250] * 9), "19 bytes in place of 35"),
        (b"", "0 bytes"),
        (b"\xff" * 35, "FFFFh: the sensor's internal time-out"),
        (bytes(35), "wrong PEC"),
        (frame(*[250] * 16, 1001), r"a pixel outside -60\.\.100 degC"),
        (frame(*[250] * 16, -601), "a pixel outside"),
    ],
)
def test_what_cannot_be_a_picture_is_refused(wrong: bytes, what: str) -> None:
    with pytest.raises(FrameError, match=what):
        decode_frame(wrong, SQUARE)


@given(st.binary(max_size=40))
def test_no_frame_proves_itself_in_both_ways(said: bytes) -> None:
    for style, head in PEC_HEADS.items():
        assert pec_style(said + bytes((crc8_smbus(head + said),))) == style


# A covered lens.


def test_one_temperature_everywhere_that_is_far_from_before_is_a_covered_lens() -> None:
    before_c = np.full((4, 4), 26.0) + np.arange(16).reshape(4, 4) / 16
    hand_c = np.full((4, 4), 35.8)
    assert is_covered(hand_c, before_c)
    assert is_covered(np.full((4, 4), 10.0), before_c)
    assert not is_covered(hand_c, None)
    assert not is_covered(before_c, before_c)
    assert not is_covered(before_c + 4.0, before_c)
    someone_c = hand_c.copy()
    someone_c[0, 0] = 26.0
    assert not is_covered(someone_c, before_c)


def recorded_frames(recordings: Path) -> list[bytes]:
    with (recordings / "d6t/d6t44l_pixels.csv").open() as file:
        rows = [[float(cell) for cell in row[1:] if cell] for row in csv.reader(file)]
    return [frame(270, *(round(10 * pixel) for pixel in row)) for row in rows]


class Played:
    """An I2C bus on which a D6T's frames follow each other, one a second."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._frames = iter(frames)
        self.reads = 0

    def now_ns(self) -> int:
        return self.reads * S

    def read(self, address: int, write: bytes, length: int) -> bytes:
        assert (address, write) == (0x0A, b"")
        self.reads += 1
        return next(self._frames)

    def write(self, address: int, data: bytes) -> None:
        assert (address, data) == (0x0A, b"\x4c")


def play(frames: Sequence[bytes]) -> tuple[D6t, list[Observation]]:
    bus = Played(frames)
    driver = D6t(bus, D6tOptions(model="44L-06", warmup_s=0.0), bus.now_ns)
    driver.open()
    observed: list[Observation] = []
    for _ in frames:
        observed += driver.poll()
    return driver, observed


def test_a_recorded_hand_over_the_lens_is_seen_as_one_and_counted_as_nobody(
    recordings: Path,
) -> None:
    frames = recorded_frames(recordings)
    pictures = [decode_frame(each, SQUARE)[0] for each in frames]
    covered = [is_covered(each, pictures[2]) for each in pictures[:12]]
    assert [at for at, is_one in enumerate(covered) if is_one] == [3, 4]
    _, observed = play(frames[:12])
    assert crossings(observed) == []


def test_the_whole_recording_is_read_without_an_error_and_alive_each_second(
    recordings: Path,
) -> None:
    frames = recorded_frames(recordings)
    driver, observed = play(frames)
    assert (driver.frames, driver.frame_errors) == (len(frames), 0)
    assert sum(isinstance(o, Alive) for o in observed) == len(frames)


def test_who_covers_the_lens_briefly_is_not_counted_and_the_place_is_remembered() -> None:
    bench = Bench(Doorway([Visitor(20, "towards")]))
    bench.run(10)
    bench.scene.covered_c = 34.0
    assert crossings(bench.run(5)) == []
    bench.scene.covered_c = None
    assert [way for _, way in crossings(bench.run(15))] == ["towards"]
    assert bench.errors == []


def test_being_covered_changes_nothing_that_is_told() -> None:
    told = []
    for covered_c in (None, 34.0):
        bench = Bench()
        bench.run(10)
        bench.scene.covered_c = covered_c
        told.append(bench.run(15))
    assert told[0] == told[1]


def test_a_lens_that_stays_covered_is_a_frame_error_that_tells_nothing_and_a_new_start() -> None:
    bench = Bench()
    bench.run(10)
    bench.scene.covered_c = 34.0
    observed = bench.run(40)
    assert bench.errors == ["frames that cannot be evaluated: started anew"]
    assert {o.reason for o in observed if isinstance(o, Trouble)} == {"warmup"}
    assert any(isinstance(o, Alive) for o in bench.run(2))


# Counting.


@pytest.mark.parametrize("model", ALL_MODELS)
@pytest.mark.parametrize("speed_m_s", [0.4, 0.8, 1.3])
def test_who_walks_slowly_and_alone_is_counted_in_the_right_direction(
    model: str, speed_m_s: float
) -> None:
    visitors = [Visitor(2, "towards", speed_m_s), Visitor(12, "away", speed_m_s)]
    bench = Bench(Doorway(visitors), {"model": model})
    counted = [way for _, way in crossings(bench.run(25))]
    assert counted == ["towards", "away"]


@pytest.mark.parametrize("model", ALL_MODELS)
@pytest.mark.parametrize("excess_k", [3.0, 4.5, 8.0])
def test_thick_coats_and_bare_heads_are_counted(model: str, excess_k: float) -> None:
    assert ways(Visitor(2, "away", excess_k=excess_k), model=model) == ["away"]


@pytest.mark.parametrize("model", ALL_MODELS)
@pytest.mark.parametrize("turns_m", [-0.8, -0.4])
def test_who_turns_back_before_the_door_is_not_counted(model: str, turns_m: float) -> None:
    assert ways(Visitor(2, "towards", turns_m=turns_m), model=model) == []


def test_one_after_the_other_are_two() -> None:
    assert ways(Visitor(2, "away"), Visitor(5, "away"), model="8L-09") == ["away"] * 2


def test_flip_and_rotate_turn_the_directions() -> None:
    visitor = Visitor(2, "towards")
    assert ways(visitor, flip=True) == ["away"]
    assert ways(visitor, rotate=180) == ["away"]
    assert ways(visitor, rotate=180, flip=True) == ["towards"]
    assert ways(visitor, rotate=90) == []
    assert ways(visitor, model="8L-09", rotate=180) == ["away"]


@pytest.mark.parametrize("model", ["44L-06", "8L-09", "8L-09H"])
def test_slow_visitors_at_random_are_mostly_counted_and_hardly_anybody_invented(
    model: str,
) -> None:
    bench = Bench(Doorway.crowd(seed=1, persons_per_minute=4), {"model": model})
    found, false = compare(bench.scene.crossings, crossings(bench.run(900)))
    total = len(bench.scene.crossings)
    assert total > 40
    assert found >= 0.8 * total  # who walks with another is not seen apart
    assert false <= 1


def test_people_in_the_second_style_of_pec_are_counted_too() -> None:
    bench = Bench(Doorway([Visitor(2, "towards")]), pec_covers_command=True)
    assert [way for _, way in crossings(bench.run(10))] == ["towards"]
    assert bench.errors == []


# Being alive, and not.


def test_it_is_alive_once_a_second_whether_or_not_somebody_is_there() -> None:
    empty, crowded = Bench(), Bench(Doorway.crowd(seed=1, persons_per_minute=60))
    alive = [[o for o in b.run(30) if isinstance(o, Alive)] for b in (empty, crowded)]
    assert alive[0] == alive[1]
    assert [o.at_boot_ns // S for o in alive[0]] == list(range(100, 130))


@pytest.mark.parametrize("model", ALL_MODELS)
def test_it_waits_until_the_sensor_has_started_and_says_so(model: str) -> None:
    bench = Bench(options={"model": model})
    observed = bench.run(1.0)
    waited = [o for o in observed if isinstance(o, Trouble)]
    assert {o.reason for o in waited} == {"warmup"}
    assert all(o.at_boot_ns < 100.62 * S for o in waited)
    assert isinstance(observed[-1], Alive)
    assert bench.errors == []


def test_once_it_knows_the_pec_the_other_way_is_refused() -> None:
    bench = Bench()
    bench.run(2)
    bench.device._pec_covers_command = True
    bench.run(0.6)
    assert bench.errors == ["wrong PEC"] * 2
    bench.run(3)  # a third one, and all is learnt anew
    assert bench.errors == ["wrong PEC"] * 3


@pytest.mark.parametrize("model", ALL_MODELS)
def test_a_power_cycle_behind_its_back_is_survived(model: str) -> None:
    bench = Bench(Doorway([Visitor(20, "towards")]), {"model": model})
    bench.run(5)
    bench.device.power_cycle()
    bench.run(5)
    assert bench.errors
    bench.errors.clear()
    assert [way for _, way in crossings(bench.run(20))] == ["towards"]
    assert bench.errors == []


def test_an_8l_09h_that_lost_its_settings_between_two_polls_gets_them_again() -> None:
    bench = Bench(options={"model": "8L-09H"})
    bench.run(2)
    bench.device.power_cycle()
    with pytest.raises(BusError):
        bench.bus.write(0x0A, b"\x4c")  # another poll's worth of booting
    bench.now_ns += S // 4
    bench.run(0.75)
    assert bench.errors == ["FFFFh: the sensor's internal time-out"] * 3
    assert any(isinstance(o, Alive) for o in bench.run(2))
    assert len(bench.errors) == 3


def test_internal_time_outs_are_frame_errors_until_they_end() -> None:
    bench = Bench()
    bench.run(2)
    bench.device.choke()
    bench.run(3)
    assert set(bench.errors) == {"FFFFh: the sensor's internal time-out"}
    assert bench.driver.frame_errors == len(bench.errors)
    bench.device.choke(choked=False)
    assert any(isinstance(o, Alive) for o in bench.run(2))


def test_a_sensor_that_stands_still_is_an_error_and_initialised_again() -> None:
    bench = Bench(options={"model": "8L-09H"})
    bench.run(2)
    bench.device.freeze()
    bench.run(905)
    assert bench.errors == ["the same frame for 900 s"]
    assert any(isinstance(o, Alive) for o in bench.run(2))
    bench.run(60)
    assert len(bench.errors) == 1


def test_a_sensor_that_does_not_answer_is_a_bus_error_and_comes_back() -> None:
    bench = Bench()
    bench.run(1)
    bench.bus.nack(0x0A)
    for call in (bench.driver.poll, bench.driver.open):
        with pytest.raises(BusError, match="0x0a: Remote I/O error"):
            call()
    bench.driver.close()
    bench.bus.heal()
    bench.driver.open()
    assert any(isinstance(o, Alive) for o in bench.run(2))


def test_whatever_goes_wrong_it_gives_no_reason_that_tells_of_persons() -> None:
    bench = Bench(Doorway.crowd(seed=1, persons_per_minute=60))
    observed = bench.run(5)
    bench.device.choke()
    observed += bench.run(2)
    bench.device.choke(choked=False)
    bench.scene.covered_c = 34.0
    observed += bench.run(40)
    bench.device.power_cycle()
    observed += bench.run(5)
    assert {type(o) for o in observed} <= {Trouble, Alive, Crossing}
    assert {o.reason for o in observed if isinstance(o, Trouble)} <= PEOPLE_REASONS


@given(
    st.lists(
        st.binary(max_size=40) | st.lists(st.integers(-700, 1100), min_size=17, max_size=17),
        max_size=40,
    )
)
def test_whatever_the_bytes_only_promised_things_come_out(said: list[bytes | list[int]]) -> None:
    bus = Played([each if isinstance(each, bytes) else frame(*each) for each in said])
    driver = D6t(bus, D6tOptions(model="44L-06", warmup_s=0.0), bus.now_ns)
    driver.open()
    for _ in said:
        with suppress(FrameError):
            assert {type(o) for o in driver.poll()} <= {Alive, Crossing}
    assert driver.frames + driver.frame_errors == len(said)


# Options and scanning.


def test_a_row_across_the_door_is_refused() -> None:
    with pytest.raises(ValidationError, match="a row of pixels across the door cannot count"):
        D6tOptions(model="8L-09", rotate=90)
    with pytest.raises(ValidationError, match="model"):
        D6tOptions.model_validate({})
    with pytest.raises(ValidationError):
        D6tOptions.model_validate({"model": "44L-06", "address": 0x0B})


def test_the_address_is_claimed_and_the_pace_is_the_sensors() -> None:
    driver: Driver = Bench(options={"model": "8L-09"}).driver
    assert D6tOptions(model="44L-06").claims() == ["i2c address 0x0a"]
    assert driver.interval_s == 0.25
    assert Bench().driver.interval_s == 0.3
    assert driver.quantities == {}


def test_a_scan_knows_each_by_the_length_of_its_frame() -> None:
    assert isinstance(D6t, Recognises)
    for model, covers in (("44L-06", False), ("44L-06", True), ("8L-09", False)):
        bench = Bench(options={"model": model}, pec_covers_command=covers)
        found = D6t.recognise(bench.bus, 0x0A)
        assert isinstance(found, Found)
        assert found.options == {"model": model}
    bench.device.choke()
    assert D6t.recognise(bench.bus, 0x0A) is None
    assert D6t.recognise(bench.bus, 0x0B) is None
