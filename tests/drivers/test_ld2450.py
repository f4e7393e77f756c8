"""HLK-LD2450: frames and commands, a recording, counting with a simulated radar, and its moods."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import (
    Alive,
    BusError,
    Crossing,
    FrameError,
    IdentityError,
    Observation,
    SerialDriver,
)
from drivers.buses import LinuxSerial
from drivers.ld2450 import (
    BAUDS,
    Answer,
    Ld2450,
    Ld2450Options,
    RadarFramer,
    Target,
    command,
    decode_answer,
    decode_targets,
    firmware,
    signed,
)
from hil.buses import Pty, SimulatedSerial
from hil.devices.ld2450 import FAR_MM, NEAR_MM, Ld2450Device, Passageway, Walker
from hil.rig import Now

S = 1_000_000_000
VECTOR = bytes.fromhex("AAFF0300 0E03B18610004001" + "00" * 16 + "55CC")
EMPTY = bytes.fromhex("AAFF0300" + "00" * 24 + "55CC")
ENABLED = bytes.fromhex("FDFCFBFA 0800 FF01 0000 0100 4000 04030201")
NEAR_S = 1.5  # how far a count may be from its crossing


def field(number: int) -> bytes:
    return (abs(number) | (0x8000 if number > 0 else 0) if number else 0).to_bytes(2, "little")


def slot(x_mm: int, y_mm: int, resolution_mm: int = 360) -> bytes:
    return field(x_mm) + field(y_mm) + field(0) + resolution_mm.to_bytes(2, "little")


def frame(*slots: bytes) -> bytes:
    return bytes.fromhex("AAFF0300") + b"".join(slots).ljust(24, b"\0") + bytes.fromhex("55CC")


def walk(from_mm: int, to_mm: int, *, x_mm: int = 200, frames: int = 40) -> list[bytes]:
    step_mm = (to_mm - from_mm) / (frames - 1)
    return [slot(x_mm, round(from_mm + i * step_mm)) for i in range(frames)]


def passive(**options: object) -> Ld2450:
    driver = Ld2450(SimulatedSerial([], lambda: 0.0), Ld2450Options(**options), lambda: 0)
    assert isinstance(driver, SerialDriver)
    return driver


def ways(observed: Iterable[Observation]) -> list[str]:
    return [each.direction for each in observed if isinstance(each, Crossing)]


def counted(frames: Iterable[bytes], **options: object) -> list[str]:
    driver = passive(**options)
    return ways(each for one in frames for each in driver.feed(one, 0))


class Bench:
    """A simulated radar, its driver as the collector treats it, and a clock that polls turn on."""

    def __init__(self, *walkers: Walker, device: Ld2450Device | None = None, **options: object):
        self.now = Now()
        passage = Passageway(walkers)
        self.device = device or Ld2450Device(passage, bluetooth=False, multi=True)
        self.port = SimulatedSerial([self.device], self.now, wait_s=self.now.advance, baud=BAUDS[0])
        self.port.open()
        self.driver = Ld2450(self.port, Ld2450Options(**options), self.now.ns)
        self.errors: list[str] = []
        self._is_open = False

    def run(self, seconds: float) -> list[Observation]:
        seen: list[Observation] = []
        until_s = self.now.s + seconds
        while self.now.s < until_s:
            began_s = self.now.s
            try:
                if not self._is_open:
                    self.driver.open()
                    self._is_open = True
                seen += self.driver.poll()
            except BusError as exc:
                self.errors.append(f"bus: {exc}")
                self._is_open = False
                self.driver.close()
            except FrameError as exc:
                self.errors.append(f"frame: {exc}")
            self.now.s = max(self.now.s, began_s + self.driver.interval_s)
        return seen


# Decoding.


def test_the_vendors_frame_is_one_target_to_the_left() -> None:
    assert decode_targets(VECTOR[4:-2]) == [Target(-782, 1713, -16, 320)]


@pytest.mark.parametrize(
    ("raw", "number"),
    [(0x8000, 0), (0, 0), (0x8001, 1), (1, -1), (0xFFFF, 32767), (0x7FFF, -32767)],
)
def test_the_sign_bit_is_set_for_plus(raw: int, number: int) -> None:
    assert signed(raw) == number


@pytest.mark.parametrize(
    "left_behind",
    [
        slot(0, 0, 0),
        slot(500, 0),  # a ghost: no distance
        slot(500, 2000, 0),  # a ghost: no resolution
        slot(7001, 2000),
        slot(-7001, 2000),
        slot(0, 8001),
        slot(0, -10),
    ],
)
def test_what_an_unused_slot_keeps_is_nobody(left_behind: bytes) -> None:
    assert decode_targets(left_behind + slot(7000, 8000) + slot(-7000, 1)) == [
        Target(7000, 8000, 0, 360),
        Target(-7000, 1, 0, 360),
    ]


def test_slots_of_another_length_are_refused() -> None:
    with pytest.raises(FrameError, match="23 bytes"):
        decode_targets(bytes(23))


def test_commands_and_answers_are_as_published() -> None:
    assert command(0x00FF, b"\x01\x00") == bytes.fromhex("FDFCFBFA 0400 FF00 0100 04030201")
    assert command(0x00FE) == bytes.fromhex("FDFCFBFA 0200 FE00 04030201")
    (heard,) = RadarFramer().feed(ENABLED)
    assert decode_answer(heard.body) == Answer(0x00FF, 0, b"\x01\x00\x40\x00")
    (echo,) = RadarFramer().feed(command(0x00FF, b"\x01\x00"))
    assert decode_answer(echo.body) is None


def test_the_firmwares_number_reads_as_in_the_makers_app() -> None:
    assert firmware(bytes.fromhex("0000040215191023")) == "V2.04.23101915"
    with pytest.raises(FrameError):
        firmware(bytes(7))


def test_the_address_that_ends_like_a_frame_is_cut_by_its_length() -> None:
    answer = bytes.fromhex("FDFCFBFA 0A00 A501 0000 080504030201 04030201")
    framer = RadarFramer()
    (heard,) = [each for i in range(len(answer)) for each in framer.feed(answer[i : i + 1])]
    assert decode_answer(heard.body) == Answer(0x00A5, 0, bytes.fromhex("080504030201"))
    assert framer.errors == 0


# The stream.


def test_a_recording_is_337_frames_without_an_error(recordings: Path) -> None:
    stream = (recordings / "ld2450/office-desk-30s.bin").read_bytes()
    whole = passive()
    seen = whole.feed(stream, 0)
    assert (whole.frames, whole.frame_errors) == (337, 0)
    bytewise = passive()
    assert [
        each for i in range(len(stream)) for each in bytewise.feed(stream[i : i + 1], 0)
    ] == seen
    assert (bytewise.frames, bytewise.frame_errors) == (337, 0)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_recording_is_the_same_however_it_is_cut(recordings: Path, data: st.DataObject) -> None:
    stream = (recordings / "ld2450/office-desk-30s.bin").read_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=60)))
    driver = passive()
    seen: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += driver.feed(stream[a:b], 0)
    assert (driver.frames, driver.frame_errors) == (337, 0)
    assert seen == passive().feed(stream, 0)


@settings(deadline=None)
@given(st.data())
def test_any_slicing_of_frames_answers_and_garbage_gives_the_same(data: st.DataObject) -> None:
    parts = st.sampled_from(
        [
            *walk(500, 4000, frames=8),
            VECTOR,
            VECTOR[:-1],
            VECTOR[1:],
            VECTOR[:-2] + b"\x55\xcd",
            ENABLED,
            ENABLED[:7],
            b"\xaa",
            b"\xaa\xff\x03\x00",
            b"\xfd\xfc\xfb\xfa\xff\xff",
            b"\xfd\xfc\xfb\xfa\x40\x00",
            bytes(5),
        ]
    )
    stream = b"".join(data.draw(st.lists(parts)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    whole, sliced = passive(), passive()
    expected = list(whole.feed(stream, 0))
    found: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b], 0)
    assert found == expected
    assert (sliced.frames, sliced.frame_errors) == (whole.frames, whole.frame_errors)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_good_frames_survive_whatever_came_before(garbage: bytes) -> None:
    driver = passive()
    driver.feed(garbage, 0)
    before = driver.frames
    # Garbage may hold the head of an answer, whose length then covers what follows.
    driver.feed(EMPTY * 4, 0)
    assert driver.frames - before >= (4 if b"\xfd\xfc\xfb\xfa" not in garbage else 1)


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_frame_inside_a_broken_one_is_found(cut: int) -> None:
    driver = passive()
    driver.feed(VECTOR[:cut] + VECTOR, 0)
    assert (driver.frames, driver.frame_errors) == (1, 1)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)))
def test_random_bytes_never_raise_and_never_pile_up(chunks: list[bytes]) -> None:
    driver = passive()
    for chunk in chunks:
        driver.feed(chunk, 0)
        assert len(driver._framer._rest) <= 80


# Counting.


def test_who_walks_away_from_the_radar_goes_towards_and_flip_turns_it_round() -> None:
    path = walk(500, 4000)
    assert counted(map(frame, path)) == ["towards"]
    assert counted(map(frame, path[::-1])) == ["away"]
    assert counted(map(frame, path), flip=True) == ["away"]


def test_the_line_is_where_the_option_puts_it() -> None:
    assert counted(map(frame, walk(500, 2500)), line_y_mm=3000) == []
    assert counted(map(frame, walk(500, 4000)), line_y_mm=3000) == ["towards"]


def test_less_than_half_a_metre_across_the_line_is_not_counted() -> None:
    assert counted(map(frame, walk(1250, 1740))) == []
    assert counted(map(frame, walk(1250, 1800))) == ["towards"]


def test_a_flicker_of_two_frames_is_not_counted() -> None:
    assert counted([frame(slot(0, 1200)), frame(slot(0, 1750)), EMPTY, EMPTY]) == []


def test_ghosts_beside_a_person_change_nothing() -> None:
    path = walk(500, 4000)
    ghosts = (slot(180, 0), slot(220, 1500, 0))
    assert counted(frame(each, *ghosts) for each in path) == ["towards"]
    assert counted(frame(*ghosts) for _ in path) == []


def test_people_who_pass_each_other_in_changing_slots_keep_their_directions() -> None:
    one, other = walk(500, 4000, x_mm=-300), walk(4000, 500, x_mm=300)
    frames = [
        frame(*pair[:: 1 if i % 3 else -1]) for i, pair in enumerate(zip(one, other, strict=True))
    ]
    assert sorted(counted(frames)) == ["away", "towards"]


def test_who_walks_beside_the_passage_is_left_out() -> None:
    path = [frame(each) for each in walk(500, 4000, x_mm=1500)]
    assert counted(path, x_min_mm=-1000, x_max_mm=1000) == []
    assert counted(path, x_max_mm=2000) == ["towards"]


def test_a_gap_in_the_stream_ends_every_track() -> None:
    path = [frame(each) for each in walk(500, 4000)]
    driver = passive()
    seen: list[Observation] = []
    for i, each in enumerate(path[:11] + path[12:]):  # 1400 mm, then on from 1580
        seen += driver.feed(each, i * S // 10 + (0 if i < 11 else 2 * S))
    assert ways(seen) == []


def test_there_is_one_sign_of_life_a_second_whoever_passes() -> None:
    empty, busy = passive(), passive()
    path = [frame(each) for each in walk(500, 4000)]
    alive = [o for i in range(40) for o in empty.feed(EMPTY, i * S // 10)]
    assert alive == [Alive(0), Alive(S), Alive(2 * S), Alive(3 * S)]
    seen = [o for i in range(40) for o in busy.feed(path[i], i * S // 10)]
    assert [o for o in seen if isinstance(o, Alive)] == alive


def matched(truth: Sequence[tuple[float, str]], counts: list[tuple[float, str]]) -> tuple[int, int]:
    """Compare event by event; return how many were counted otherwise, and how many exchanged."""
    false, missed = list(counts), []
    for at_s, way in truth:
        near = [each for each in false if each[1] == way and abs(each[0] - at_s) <= NEAR_S]
        if near:
            false.remove(min(near, key=lambda each: abs(each[0] - at_s)))
        else:
            missed.append((at_s, way))
    exchanged = sum(
        any(way != other and abs(at_s - other_s) <= NEAR_S for other_s, other in false)
        for at_s, way in missed
    )
    return len(missed) + len(false), exchanged


@pytest.mark.parametrize(("persons_per_minute", "error"), [(5, 0.03), (30, 0.05), (60, 0.10)])
def test_a_crowd_is_counted_within_its_error_and_no_direction_is_exchanged(
    persons_per_minute: int, error: float
) -> None:
    truth, counts = 0, 0
    for seed in range(2):
        passage = Passageway.crowd(seed, persons_per_minute)
        bench = Bench(device=Ld2450Device(passage, bluetooth=False, multi=True, seed=seed))
        seen = bench.run(900.0 if persons_per_minute > 5 else 2400.0)
        crossings = [
            (each.at_boot_ns / S - 1000.0, each.direction)
            for each in seen
            if isinstance(each, Crossing)
        ]
        assert matched(passage.crossings, crossings)[1] == 0
        truth += len(passage.crossings)
        counts += len(crossings)
        assert bench.errors == []
    assert truth > 300
    assert counts == pytest.approx(truth, rel=error)


def test_a_fourth_person_abreast_is_not_seen() -> None:
    four = [Walker(1.0, "towards", x_mm=x) for x in (-900.0, -300.0, 300.0, 900.0)]
    assert ways(Bench(*four[:3]).run(10.0)) == 3 * ["towards"]
    assert ways(Bench(*four).run(10.0)) == 3 * ["towards"]


def test_a_single_target_radar_would_miss_and_is_told_to_track_several() -> None:
    device = Ld2450Device(
        Passageway([Walker(5.0, "towards", x_mm=-500.0), Walker(5.0, "away", x_mm=500.0)]),
        multi=False,
    )
    assert sorted(ways(Bench(device=device).run(15.0))) == ["away", "towards"]
    assert device.multi


# Setting it up.


def test_bluetooth_goes_off_with_one_restart_and_never_again() -> None:
    device = Ld2450Device(Passageway(), bluetooth=True)
    bench = Bench(device=device)
    bench.run(5.0)
    assert not device.bluetooth
    assert device.restarts == 1
    assert bench.driver.identity == "LD2450 V2.04.23101915, Bluetooth off"
    bench.driver.close()
    bench.driver.open()
    assert device.restarts == 1
    assert bench.run(2.0)
    assert bench.errors == []


class KeepsItsRadio(Ld2450Device):
    def _boot(self, at_s: float) -> None:
        super()._boot(at_s)
        self.bluetooth = True


def test_a_radar_that_keeps_its_bluetooth_on_counts_and_says_so() -> None:
    device = KeepsItsRadio(Passageway([Walker(8.0, "towards")]), bluetooth=True)
    bench = Bench(device=device)
    assert ways(bench.run(15.0)) == ["towards"]
    assert bench.driver.identity == "LD2450 V2.04.23101915, Bluetooth still on"


class SeesOne(Ld2450Device):
    @property
    def multi(self) -> bool:
        return False

    @multi.setter
    def multi(self, wanted: bool) -> None:
        pass


def test_a_radar_that_does_not_track_several_is_told_with_what_it_answered() -> None:
    bench = Bench(device=SeesOne(Passageway(), bluetooth=False))
    with pytest.raises(FrameError, match=r"\(0090\), it answers 0091 with 01 00 in place of 02 00"):
        bench.driver.open()
    assert not bench.device._is_configured  # it measures on


@pytest.mark.parametrize("baud", BAUDS)
def test_its_speed_is_found(baud: int) -> None:
    device = Ld2450Device(Passageway([Walker(10.0, "away")]), baud=baud)
    bench = Bench(device=device)
    assert ways(bench.run(18.0)) == ["away"]
    assert bench.errors == []
    assert bench.driver.frame_errors == 0


def test_a_radar_that_changes_its_speed_is_found_again() -> None:
    bench = Bench()
    bench.run(3.0)
    bench.device.baud = 115200
    bench.run(6.0)
    (error,) = bench.errors
    assert error.startswith("bus: LD2450: bytes, but no frame for 4 s at 256000 baud")
    assert bench.run(3.0)
    assert len(bench.errors) == 1


def test_a_radar_left_in_the_middle_of_its_settings_is_freed() -> None:
    device = Ld2450Device(Passageway([Walker(6.0, "towards")]))
    device.hear(command(0x00FF, b"\x01\x00"), 1000.0)
    bench = Bench(device=device)
    assert ways(bench.run(15.0)) == ["towards"]
    assert bench.errors == []


def test_nobody_at_any_speed_is_told_with_what_to_check() -> None:
    bench = Bench()
    bench.port.line.silence()
    with pytest.raises(BusError, match=r"^nobody speaks like an LD2450 at 256000 baud or 7 others"):
        bench.driver.open()


class Ld2410:
    """Its sibling: other frames, the same answers."""

    baud = 256000
    said_s = 0.0

    def hear(self, data: bytes, now_s: float) -> None:
        pass

    def speak(self, now_s: float) -> bytes:
        if now_s < self.said_s + 0.1:
            return b""
        self.said_s = now_s
        return bytes.fromhex("F4F3F2F1 0D00 02AA 02 1E00 3C 0000 39 0000 55 00 F8F7F6F5")


def test_its_sibling_is_named() -> None:
    now = Now()
    port = SimulatedSerial([Ld2410()], now, wait_s=now.advance, baud=256000)
    port.open()
    with pytest.raises(IdentityError, match="HLK-LD2410 answers at 256000 baud"):
        Ld2450(port, Ld2450Options(), now.ns).open()


def test_a_deaf_radar_counts_is_said_to_be_deaf_and_is_asked_again() -> None:
    walkers = [Walker(at_s, "towards") for at_s in (5.0, 650.0)]
    device = Ld2450Device(Passageway(walkers), bluetooth=True, multi=True)
    device.go_deaf()
    bench = Bench(device=device)
    assert ways(bench.run(60.0)) == ["towards"]
    assert "answers no commands: power-cycle it" in bench.driver.identity
    device.power_cycle(bench.now.s)
    assert ways(bench.run(600.0)) == ["towards"]
    assert bench.driver.identity == "LD2450 V2.04.23101915, Bluetooth off"
    assert bench.errors == []


# Its moods.


def test_an_empty_room_is_healthy_for_an_hour() -> None:
    bench = Bench(device=Ld2450Device(Passageway(), ghost_share=0.0))
    seen = bench.run(3600.0)
    assert bench.errors == []
    assert sum(isinstance(each, Alive) for each in seen) >= 3595


def test_ghosts_that_stay_in_an_empty_room_are_healthy() -> None:
    driver = passive()
    left = frame(slot(300, 0), slot(300, 1500, 0))
    seen = [o for i in range(1000) for o in driver.feed(left, i * S // 10)]
    assert len(seen) == 100
    assert not driver._is_frozen


def test_a_frozen_radar_is_restarted_and_counts_on() -> None:
    device = Ld2450Device(
        Passageway([Walker(30.0, "towards")]), bluetooth=False, multi=True, ghost_share=0.0
    )
    bench = Bench(device=device)
    bench.run(5.0)
    device.freeze()
    assert ways(bench.run(40.0)) == ["towards"]
    assert device.restarts == 1
    assert bench.errors == ["frame: LD2450: the same frame for 5 s; it is being restarted"]


def test_a_frozen_radar_that_is_deaf_gives_no_sign_of_life_until_power_returns() -> None:
    device = Ld2450Device(Passageway([Walker(100.0, "away")]), bluetooth=False, multi=True)
    bench = Bench(device=device)
    bench.run(2.0)
    device.freeze()
    device.go_deaf()
    bench.run(6.0)
    assert bench.run(50.0) == []
    bench.driver.close()  # as the collector does after some errors in a row
    bench.driver.open()
    assert bench.run(5.0) == []
    assert set(bench.errors) == {"frame: LD2450: the same frame for 5 s; it is being restarted"}
    device.power_cycle(bench.now.s, off_s=1.0)
    assert ways(bench.run(60.0)) == ["away"]


def test_a_power_cycle_costs_seconds() -> None:
    device = Ld2450Device(Passageway([Walker(20.0, "towards")]), bluetooth=False, multi=True)
    bench = Bench(device=device)
    bench.run(5.0)
    device.power_cycle(bench.now.s, off_s=6.0)
    assert ways(bench.run(30.0)) == ["towards"]
    assert all(each.startswith("bus: ") for each in bench.errors)


def test_a_silent_radar_is_a_bus_error_after_some_seconds() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.port.line.silence()
    bench.run(2.5)
    assert bench.errors == []
    bench.run(1.5)
    assert bench.errors[0].startswith("bus: LD2450: no byte for 4 s at 256000 baud: check")
    bench.port.line.heal()
    assert bench.run(3.0)


def test_a_port_that_is_pulled_out_is_a_bus_error_and_comes_back() -> None:
    bench = Bench()
    bench.run(2.0)
    bench.port.unplug()
    with pytest.raises(BusError):
        bench.driver.poll()
    with pytest.raises(BusError):
        bench.driver.open()
    bench.port.plug()
    bench.port.open()
    bench.driver.open()
    assert bench.run(1.0)


def test_a_noisy_line_is_counted_as_such_and_people_are_too() -> None:
    walkers = [Walker(10.0 * i, "towards") for i in range(1, 31)]
    device = Ld2450Device(Passageway(walkers), bluetooth=False, multi=True)
    bench = Bench(device=device)
    bench.run(2.0)
    bench.port.line.garble(0.002)
    seen = bench.run(310.0)
    assert bench.driver.frame_errors > 20  # of heads and tails; the rest has no checksum
    assert len(ways(seen)) >= 28
    assert "away" not in ways(seen)


# Around it.


@pytest.mark.parametrize(
    "options",
    [
        {"line_y_mm": 100},
        {"line_y_mm": 6000},
        {"x_min_mm": 500, "x_max_mm": 500},
        {"x_max_mm": 9000},
        {"baud": 256000},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ld2450Options(**options)


def test_the_simulated_radar_says_the_same_whatever_the_steps() -> None:
    def spoken(seed: int, step_s: float) -> bytes:
        device = Ld2450Device(Passageway.crowd(seed, 30.0), seed=seed)
        return b"".join(device.speak(i * step_s) for i in range(round(60.0 / step_s) + 1))

    assert spoken(1, 0.5) == spoken(1, 20.0)
    assert spoken(1, 0.5) != spoken(2, 0.5)


def test_a_walker_is_where_time_says() -> None:
    walker = Walker(2.0, "away", speed_mm_s=1000.0)
    assert walker.place(2.0) == (0.0, FAR_MM)
    assert walker.passes_s(1500.0) == 2.0 + (FAR_MM - 1500.0) / 1000.0
    assert walker.gone_s() == 2.0 + (FAR_MM - NEAR_MM) / 1000.0


def test_over_a_real_terminal_it_is_set_up_and_tells_that_it_lives() -> None:
    assert Ld2450.spec.line is not None
    device = Ld2450Device(Passageway(), bluetooth=False)
    with Pty([device], time.monotonic) as pty:
        port = LinuxSerial(pty.path, Ld2450.spec.line)
        port.open()
        driver = Ld2450(port, Ld2450Options(), time.monotonic_ns)
        driver.open()
        assert pty.baud == 256000
        assert driver.identity == "LD2450 V2.04.23101915, Bluetooth off"
        assert device.multi
        seen: list[Observation] = []
        while not seen:
            seen += driver.poll()
        assert isinstance(seen[0], Alive)
        driver.close()
        port.close()
