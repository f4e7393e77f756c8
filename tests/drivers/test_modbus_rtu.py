from __future__ import annotations

import asyncio
import json
import math
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import minimalmodbus
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

from drivers.base import BusError, FrameError, LineSettings, Observation, Reading, Trouble
from drivers.buses import LinuxSerial
from drivers.modbus_rtu import (
    EXCEPTIONS,
    ModbusRtu,
    ModbusRtuOptions,
    Question,
    answer_of,
    find_answer,
    identification,
    request,
    runs,
    sealed,
    size_at,
    value_of,
)
from hil.buses import Pty, SimulatedSerial
from hil.devices.modbus import ModbusDevice, packed
from hil.rig import Now

U16 = [{"register": n, "quantity": f"q{n}"} for n in range(4)]


def options(**given: object) -> ModbusRtuOptions:
    return ModbusRtuOptions.model_validate({"address": 7, "registers": U16, **given})


def passive(**given: object) -> ModbusRtu:
    now = Now()
    return ModbusRtu(SimulatedSerial([], now), options(**given), now.ns)


def values(seen: Sequence[Observation]) -> dict[str, object]:
    return {each.quantity: each.value for each in seen if isinstance(each, Reading)}


def reasons(seen: Sequence[Observation]) -> set[object]:
    return {each.reasons for each in seen if isinstance(each, Reading)}


def words(*numbers: int) -> dict[int, Any]:
    return {n: lambda _, w=w: w.to_bytes(2, "big") for n, w in enumerate(numbers)}


class Asked:
    """A driver at a device, and a time of their own."""

    def __init__(self, *devices: object, **given: object) -> None:
        self.now = Now()
        self.port = SimulatedSerial(devices, self.now, wait_s=self.now.advance)
        self.port.open()
        self.driver = ModbusRtu(self.port, options(**given), self.now.ns)
        self.driver.open()


# --- the codec, against recorded bytes ------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(recordings: Path) -> list[tuple[bytes, bytes, str]]:
    found = json.loads((recordings / "modbus/rtu_pairs.json").read_text())
    assert len(found) == 24
    return [
        (bytes.fromhex(pair["request"]), bytes.fromhex(pair["response"]), pair["comment"])
        for pair in found
    ]


def test_each_recorded_frame_is_cut_by_its_length_and_proven(
    pairs: list[tuple[bytes, bytes, str]],
) -> None:
    for asked, answered, _ in pairs:
        assert size_at(bytearray(asked), 0) == len(asked)
        assert size_at(bytearray(answered), 0) == len(answered)


def test_our_question_equals_the_recorded_one_and_its_answer_is_found_behind_its_echo(
    pairs: list[tuple[bytes, bytes, str]],
) -> None:
    reads = 0
    for asked, answered, comment in pairs:
        address, function, first, count = struct.unpack(">BBHH", asked[:6])
        if function != 3:
            continue
        reads += 1
        question = Question(address, function, first, count)
        assert request(question) == asked
        answer = find_answer(asked + answered, question)
        assert answer is not None
        assert len(answer.registers) == 2 * count
        value = comment.split("Response value ")[1]
        (number,) = struct.unpack(">H", answer.registers[:2])
        assert value.startswith(("[", f"{number}")) or float(value) == number / 10
    assert reads == 11


def test_the_recorded_answers_are_decoded_and_the_questions_between_them_are_not(
    pairs: list[tuple[bytes, bytes, str]],
) -> None:
    alone, among = passive(address=None, registers=[]), passive(address=None, registers=[])
    found = [values(alone.feed(answered, 0)) for _, answered, _ in pairs]
    assert (alone.frames, alone.frame_errors) == (24, 0)
    for (asked, answered, _), expected in zip(pairs, found, strict=True):
        assert values(among.feed(asked + answered, 0)) == expected
    assert among.frame_errors == 0
    assert [each for each in found if each][:3] == [
        {"channel_0": 8236.0},
        {"channel_0": 250.0},
        {"channel_0": 3258.0},
    ]
    assert {"channel_0": 64990.0, "channel_1": 350.0} in found


def test_recorded_registers_get_their_names_and_scales(
    pairs: list[tuple[bytes, bytes, str]],
) -> None:
    table = [
        {"register": 0x1000, "quantity": "present_c", "unit": "Cel", "type": "s16", "scale": 0.1},
        {"register": 0x1001, "quantity": "wanted_c", "unit": "Cel", "scale": 0.1},
    ]
    driver = passive(address=7, registers=table)
    (two,) = [answered for asked, answered, _ in pairs if asked[:6].hex() == "070310000002"]
    assert values(driver.feed(two, 0)) == {
        "present_c": pytest.approx(-54.6),
        "wanted_c": pytest.approx(35.0),
    }


def test_the_published_question() -> None:
    assert request(Question(1, 3, 0, 10)).hex(" ").upper() == "01 03 00 00 00 0A C5 CD"


# --- numbers in registers -------------------------------------------------------------------------


@pytest.mark.parametrize("word_order", ["ABCD", "CDAB", "BADC", "DCBA"])
@pytest.mark.parametrize(
    ("type_", "number"),
    [
        ("u16", 0xFEDC),
        ("s16", -300),
        ("u32", 0xFEDCBA98),
        ("s32", -70_000),
        ("f32", -12.375),
    ],
)
def test_each_type_in_each_order_of_bytes(type_: Any, word_order: Any, number: float) -> None:
    raw = packed(type_, word_order, number)
    pattern, found = value_of(raw, type_, word_order)
    assert found == number
    assert pattern == int.from_bytes(packed(type_, "ABCD", number), "big")


def test_the_orders_of_bytes_are_those_of_the_manuals() -> None:
    assert value_of(bytes.fromhex("12345678"), "u32", "ABCD")[1] == 0x12345678
    assert value_of(bytes.fromhex("56781234"), "u32", "CDAB")[1] == 0x12345678
    assert value_of(bytes.fromhex("34127856"), "u32", "BADC")[1] == 0x12345678
    assert value_of(bytes.fromhex("78563412"), "u32", "DCBA")[1] == 0x12345678
    assert value_of(bytes.fromhex("3412"), "u16", "BADC")[1] == 0x1234


def single(raw: bytes, **table: object) -> Reading:
    driver = passive(registers=[{"register": 0, "quantity": "q", **table}])
    (reading,) = driver.feed(sealed(bytes((7, 3, len(raw))) + raw), 0)
    assert isinstance(reading, Reading)
    return reading


@pytest.mark.parametrize(
    ("raw", "table"),
    [
        (b"\xff\xff", {"invalid": [0xFFFF]}),
        (b"\x7f\xff", {"type": "s16", "invalid": [0xFFFF, 0x7FFF]}),
        (b"\x80\x00", {"type": "s16", "invalid": [0x8000]}),
        (b"\xff\xff\xff\xff", {"type": "u32", "invalid": [0xFFFFFFFF]}),
        (b"\xc0\x00\x7f\x80", {"type": "f32", "word_order": "CDAB", "invalid": [0x7F80C000]}),
    ],
)
def test_a_number_that_stands_for_none_is_no_value(raw: bytes, table: dict[str, object]) -> None:
    assert single(raw, **table) == Reading("q", None, 0, ("weak_signal",))


@pytest.mark.parametrize(
    ("raw", "table"),
    [
        (b"\x00\x65", {"high": 100.0}),
        (b"\xff\xff", {"type": "s16", "low": 0.0}),
        (b"\x00\x0b", {"scale": 10.0, "high": 100.0}),
        (struct.pack(">f", math.nan), {"type": "f32"}),
        (struct.pack(">f", math.inf), {"type": "f32"}),
        (b"\xff\xff\xff\xff", {"type": "u32", "scale": 1e300}),
    ],
)
def test_a_number_outside_of_what_it_can_be_is_no_value(
    raw: bytes, table: dict[str, object]
) -> None:
    assert single(raw, **table) == Reading("q", None, 0, ("out_of_range",))


def test_scale_and_offset_make_the_value() -> None:
    assert single(b"\x02\x58", scale=0.1, offset=-40.0).value == pytest.approx(20.0)


# --- which registers go into one question ---------------------------------------------------------


def spans(table: list[dict[str, object]]) -> list[tuple[int, int, int]]:
    parsed = options(registers=table).registers
    return [(run.function, run.first, run.count) for run in runs(parsed)]


def test_registers_that_follow_each_other_are_one_question_and_holes_are_not_read() -> None:
    table: list[dict[str, object]] = [
        {"register": 12, "quantity": "d", "type": "f32"},
        {"register": 0, "quantity": "a"},
        {"register": 1, "quantity": "b", "type": "u32"},
        {"register": 3, "quantity": "c"},
        {"register": 3, "quantity": "c_again", "scale": 2.0},
        {"register": 0, "quantity": "e", "function": 4},
    ]
    assert spans(table) == [(3, 0, 4), (3, 12, 2), (4, 0, 1)]


@given(st.sets(st.integers(0, 800).map(lambda n: 2 * n), min_size=1, max_size=300))
@settings(deadline=None)
def test_no_question_is_longer_than_the_protocol_allows_and_none_cuts_a_value(
    firsts: set[int],
) -> None:
    table = [{"register": n, "quantity": f"q{n}", "type": "f32"} for n in firsts]
    parsed = options(registers=table).registers
    found = runs(parsed)
    assert all(run.count <= 125 for run in found)
    held = [(each.quantity, run) for run in found for each in run.registers]
    assert sorted(name for name, _ in held) == sorted(each.quantity for each in parsed)
    for run in found:
        for each in run.registers:
            assert run.first <= each.register_
            assert each.register_ + 2 <= run.first + run.count
        covered = {n for each in run.registers for n in (each.register_, each.register_ + 1)}
        assert covered == set(range(run.first, run.first + run.count))


# --- asking ---------------------------------------------------------------------------------------


def test_a_poll_reads_every_run_at_one_time() -> None:
    device = ModbusDevice(7, words(1, 2, 3, 4), {9: lambda _: b"\x00\x05"})
    table = [*U16, {"register": 9, "function": 4, "quantity": "five"}]
    asked = Asked(device, registers=table)
    at_ns = asked.now.ns()
    seen = asked.driver.poll()
    assert values(seen) == {"q0": 1.0, "q1": 2.0, "q2": 3.0, "q3": 4.0, "five": 5.0}
    assert {each.at_boot_ns for each in seen} == {at_ns}
    assert device.questions == 2
    assert (asked.driver.frames, asked.driver.frame_errors) == (2, 0)


SPREAD = [{"register": 2 * n, "quantity": f"q{n}"} for n in range(5)]


def spread() -> dict[int, Any]:
    return {2 * n: lambda _, n=n: n.to_bytes(2, "big") for n in range(5)}


def test_a_dead_address_costs_one_time_out_however_many_runs_there_are() -> None:
    device = ModbusDevice(8, spread())
    asked = Asked(device, registers=SPREAD)
    began_s = asked.now.s
    with pytest.raises(BusError) as caught:
        asked.driver.poll()
    assert asked.now.s - began_s == pytest.approx(0.5, abs=0.03)
    assert str(caught.value) == (
        "nobody answers at Modbus address 7: check power, A/B wires, baud 9600 8N1 unless "
        "[[buses]] sets another, and the address"
    )


def test_a_device_that_falls_silent_within_a_poll_costs_one_time_out_and_the_rest() -> None:
    class Tiring(ModbusDevice):
        """Answers twice."""

        unanswered = 0

        def hear(self, data: bytes, now_s: float) -> None:
            if self.questions < 2:
                super().hear(data, now_s)
            else:
                self.unanswered += 1

    device = Tiring(7, spread())
    asked = Asked(device, registers=SPREAD)
    began_s = asked.now.s
    seen = asked.driver.poll()
    assert asked.now.s - began_s < 0.5 + 0.1
    good = {name: value for name, value in values(seen).items() if value is not None}
    assert list(good) == ["q0", "q1"]
    assert device.unanswered == 1
    assert reasons([each for each in seen if each.value is None]) == {("bus_error",)}
    assert set(values(seen)) == {f"q{n}" for n in range(5)}


def test_a_late_answer_of_the_same_length_is_not_taken_for_other_registers() -> None:
    device = ModbusDevice(7, spread())
    asked = Asked(device, registers=SPREAD[:2], interval_s=1.0)
    device.turnaround_s = 0.7
    with pytest.raises(BusError):
        asked.driver.poll()
    device.turnaround_s = 0.02
    asked.now.advance(0.5)  # the poll comes at the earliest after an interval of a second
    assert values(asked.driver.poll()) == {"q0": 0.0, "q1": 1.0}


@pytest.mark.parametrize("exception", [1, 2, 3, 4, 8, 99])
def test_an_exception_is_told_in_words(exception: int) -> None:
    device = ModbusDevice(7, words(1, 2, 3, 4))
    device.exception = exception
    asked = Asked(device)
    with pytest.raises(FrameError) as caught:
        asked.driver.poll()
    word = EXCEPTIONS.get(exception, "of no known meaning")
    assert str(caught.value) == (
        f"Modbus address 7 refuses registers 0 to 3 (function 03): exception {exception:02d}, "
        f"{word}; compare `registers` with the device's manual"
    )
    assert (asked.driver.frames, asked.driver.frame_errors) == (1, 0)


@pytest.mark.parametrize("exception", [10, 11])
def test_a_gateway_that_reaches_nobody_is_a_bus_error(exception: int) -> None:
    device = ModbusDevice(7, words(1, 2, 3, 4))
    device.exception = exception
    with pytest.raises(BusError, match="gateway"):
        Asked(device).driver.poll()


@pytest.mark.parametrize("exception", [5, 6])
def test_a_busy_device_is_warming_up(exception: int) -> None:
    device = ModbusDevice(7, words(1, 2, 3, 4))
    device.exception = exception
    asked = Asked(device)
    seen = asked.driver.poll()
    assert values(seen) == dict.fromkeys(("q0", "q1", "q2", "q3"))
    assert reasons(seen) == {("warmup",)}
    device.exception = 0
    assert None not in values(asked.driver.poll()).values()


def test_registers_that_the_device_lacks_cost_only_themselves() -> None:
    sources = spread()
    del sources[4]
    asked = Asked(ModbusDevice(7, sources), registers=SPREAD)
    seen = asked.driver.poll()
    assert values(seen) == {"q0": 0.0, "q1": 1.0, "q2": None, "q3": 3.0, "q4": 4.0}
    assert reasons([each for each in seen if each.value is None]) == {("frame_error",)}


def test_before_each_question_the_line_is_silent_for_three_and_a_half_characters() -> None:
    times: list[float] = []

    class Timed(ModbusDevice):
        def hear(self, data: bytes, now_s: float) -> None:
            times.append(now_s)
            super().hear(data, now_s)

        def speak(self, now_s: float) -> bytes:
            said = super().speak(now_s)
            if said:
                times.append(now_s)
            return said

    asked = Asked(Timed(7, spread()), registers=SPREAD, baud=1200)
    asked.driver.poll()
    pauses = [b - a for a, b in zip(times[1::2], times[2::2], strict=False)]
    assert len(pauses) == 4
    assert min(pauses) >= 3.5 * 11 / 1200 - 1e-9


def test_a_line_that_is_never_silent_is_a_frame_error_and_no_question_is_asked() -> None:
    class Talker:
        def __init__(self) -> None:
            self.heard = b""

        def hear(self, data: bytes, now_s: float) -> None:
            self.heard += data

        def speak(self, now_s: float) -> bytes:
            return b"R1234\r"

    talker = Talker()
    asked = Asked(talker)
    with pytest.raises(FrameError, match="never silent"):
        asked.driver.poll()
    assert talker.heard == b""


def test_an_answer_of_another_device_is_neither_an_answer_nor_garbage() -> None:
    class Wrong(ModbusDevice):
        def _answer(self, asked: bytes, now_s: float) -> bytes:
            return sealed(b"\x08\x03\x02\x00\x01")

    asked = Asked(Wrong(7, words(1, 2, 3, 4)))
    with pytest.raises(BusError):
        asked.driver.poll()
    assert asked.driver.frame_errors == 0


def test_registers_that_never_change_are_no_complaint_unless_one_asks_for_it() -> None:
    device = ModbusDevice(7, words(1, 2, 3, 4))
    patient, strict = Asked(device), Asked(device, stuck_s=3600.0)
    for asked in (patient, strict):
        asked.driver.poll()
        asked.now.advance(1e6)
    assert None not in values(patient.driver.poll()).values()
    assert reasons(strict.driver.poll()) == {("stuck",)}


def test_two_devices_share_a_line_and_a_dead_one_does_not_stop_the_other() -> None:
    one, two = ModbusDevice(7, words(1, 2, 3, 4)), ModbusDevice(9, words(5, 6, 7, 8))
    asked = Asked(one, two)
    other = ModbusRtu(asked.port, options(address=9), asked.now.ns)
    assert values(other.poll())["q0"] == 5.0
    asked.port.line.silence(two)
    with pytest.raises(BusError):
        other.poll()
    assert values(asked.driver.poll())["q0"] == 1.0


# --- passive decoding -----------------------------------------------------------------------------


def test_a_response_is_decoded_for_itself_and_unknown_registers_are_channels() -> None:
    two = sealed(b"\x07\x03\x04\x00\x01\x00\x02")
    assert values(passive().feed(two, 0)) == {"channel_0": 1.0, "channel_1": 2.0}
    assert passive(address=9).feed(two, 0) == []
    four = sealed(b"\x07\x03\x08" + bytes(range(8)))
    assert set(values(passive().feed(four, 0))) == {"q0", "q1", "q2", "q3"}


def test_an_exception_that_is_overheard_is_trouble() -> None:
    assert passive().feed(sealed(b"\x07\x83\x06"), 5) == [Trouble("warmup", 5)]
    assert passive().feed(sealed(b"\x07\x83\x02"), 5) == [Trouble("frame_error", 5)]


def test_what_looks_like_a_long_frame_ends_with_the_silence_after_it() -> None:
    driver = passive()
    good = sealed(b"\x07\x03\x08" + bytes(8))
    assert driver.feed(b"\x01\x03\xfa" + good, 0) == []
    seen = driver.feed(good, round(1e9))
    assert len(seen) == 8
    assert (driver.frames, driver.frame_errors) == (2, 1)


@pytest.mark.parametrize("bit", range(8 * 13))
def test_each_flipped_bit_is_noticed_and_the_next_answer_is_found(bit: int) -> None:
    good = sealed(b"\x07\x03\x08" + bytes(range(8)))
    damaged = bytearray(good)
    damaged[bit // 8] ^= 1 << bit % 8
    driver = passive()
    driver.feed(bytes(damaged), 0)
    seen = driver.feed(good, round(1e9))
    assert values(seen)["q0"] == 1.0
    assert (driver.frames, driver.frame_errors) == (1, 1)
    question = Question(7, 3, 0, 4)
    assert find_answer(bytes(damaged), question) is None
    assert find_answer(bytes(damaged) + good, question) is not None


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300)))
def test_random_bytes_never_raise_and_never_pile_up(chunks: list[bytes]) -> None:
    driver = passive(address=None)
    for chunk in chunks:
        driver.feed(chunk, 0)
        find_answer(chunk, Question(7, 3, 0, 4))
        identification(chunk)
        assert len(driver._framer._rest) < 256


@settings(deadline=None)
@given(st.binary(min_size=2, max_size=20))
def test_a_sealed_frame_of_any_content_is_read_without_an_exception(content: bytes) -> None:
    frame = bytearray(sealed(content))
    size = size_at(frame, 0)
    if size:
        answer_of(bytes(frame[:size]))


# --- options --------------------------------------------------------------------------------------


def test_the_options_set_the_line() -> None:
    assert options(baud=19200, parity="E", stop_bits=2).line() == LineSettings(19200, 8, "E", 2)
    assert options().line() == LineSettings(9600)
    assert options().claims() == ["Modbus address 7"]


def test_a_device_asks_for_what_it_needs() -> None:
    assert [each.split(":")[0] for each in ModbusRtuOptions().missing_to_measure()] == [
        "address",
        "registers",
    ]
    assert options().missing_to_measure() == []
    assert options(kind="road").kind == passive(kind="road").kind == "road"


@pytest.mark.parametrize(
    "given",
    [
        {"address": 0},
        {"address": 248},
        {"kind": "people"},
        {"parity": "M"},
        {"registers": [{"register": 0, "quantity": "q"}, {"register": 1, "quantity": "q"}]},
        {"registers": [{"register": 65535, "quantity": "q", "type": "f32"}]},
        {"registers": [{"register": 0, "quantity": "q", "function": 6}]},
        {"registers": [{"register": 0, "quantity": "q", "word_order": "ABDC"}]},
        {"registers": [{"register": 0, "quantity": "air_temperature", "unit": "Cel"}]},
        {"registers": [{"register": 0, "quantity": "condition"}]},
        {"registers": [{"register": 0, "quantity": "channel_1"}]},
        {"registers": [{"register": 0, "quantity": "q", "scale": 0.0}]},
        {"registers": [{"register": 0, "quantity": "q", "low": 1.0, "high": 1.0}]},
        {"registers": [{"register": 0, "quantity": "q", "invalid": [-1]}]},
        {"registers": [{"register_": 0, "quantity": "q"}]},
    ],
)
def test_options_that_cannot_be_meant_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        options(**given)


# --- scanning -------------------------------------------------------------------------------------


def test_a_scan_finds_who_answers_in_any_way_and_writes_nothing() -> None:
    functions: set[int] = set()

    class Eavesdropper:
        def hear(self, data: bytes, now_s: float) -> None:
            if len(data) == 8:  # a question; answers pass here, too
                functions.add(data[1])

        def speak(self, now_s: float) -> bytes:
            return b""

    class OnlyInputs(ModbusDevice):
        """Says nothing to a function that it does not know."""

        def hear(self, data: bytes, now_s: float) -> None:
            if data[1] == 4:
                super().hear(data, now_s)

    devices = [
        ModbusDevice(3, words(1), name="Yukimi Bench"),
        ModbusDevice(21, {}),  # an exception is an answer
        OnlyInputs(200, {}, words(1)),
        Eavesdropper(),
    ]
    asked = Asked(*devices)
    began_ns = asked.now.ns()
    found = list(ModbusRtu.discover(asked.port, asked.now.ns, began_ns + round(120e9)))
    assert [(each.what, each.options) for each in found] == [
        ("Yukimi Bench 1.0, address 3", {"address": 3}),
        ("Modbus device, address 21", {"address": 21}),
        ("Modbus device, address 200", {"address": 200}),
    ]
    assert functions <= {3, 4, 0x2B}
    bounded = list(ModbusRtu.discover(asked.port, asked.now.ns, asked.now.ns() + round(2e9)))
    assert len(bounded) == 1


# --- strangers at the other end -------------------------------------------------------------------

TYPES = ("u16", "s16", "u32", "s32", "f32")
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
NUMBERS: dict[str, float] = {
    "u16": 0xFEDC,
    "s16": -300,
    "u32": 0xFEDCBA98,
    "s32": -70_000,
    "f32": -12.375,
}


class Server:
    """pymodbus as a Modbus RTU server on one end of a pair of pseudo-terminals."""

    def __init__(self, path: str, registers: list[int]) -> None:
        self._path = path
        self._registers = registers
        self._listens = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> None:
        self._thread.start()
        assert self._listens.wait(60.0)

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        block = SimData(0, values=self._registers, datatype=DataType.REGISTERS)
        device = SimDevice(id=7, simdata=[block])
        server = ModbusSerialServer(
            device, framer=FramerType.RTU, port=self._path, baudrate=9600, timeout=0.01
        )
        serving = asyncio.create_task(server.serve_forever())
        while server.transport is None and not serving.done():
            await asyncio.sleep(0.01)
        self._listens.set()
        await self._done.wait()
        await server.shutdown()
        serving.cancel()


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two ends of one line, carried by a thread as a null modem does."""
    ends: list[list[bytes]] = [[], []]

    class End:
        def __init__(self, own: int) -> None:
            self._own = own

        def hear(self, data: bytes, now_s: float) -> None:
            ends[1 - self._own].append(data)

        def speak(self, now_s: float) -> bytes:
            said = b"".join(ends[self._own])
            ends[self._own].clear()
            return said

    with Pty([End(0)], time.monotonic) as a, Pty([End(1)], time.monotonic) as b:
        yield a.path, b.path


def test_a_server_of_pymodbus_is_read_in_all_types_and_orders(pair: tuple[str, str]) -> None:
    raw, table, expected = b"", [], {}
    for type_ in TYPES:
        for order in ORDERS:
            name = f"{type_}_{order.lower()}"
            table.append(
                {
                    "register": len(raw) // 2,
                    "quantity": name,
                    "type": type_,
                    "word_order": order,
                    "function": 4 if type_ == "s16" else 3,
                }
            )
            raw += packed(type_, order, NUMBERS[type_])
            expected[name] = float(NUMBERS[type_])
    registers = [number for (number,) in struct.iter_unpack(">H", raw)]
    with Server(pair[1], registers):
        port = LinuxSerial(pair[0], options().line())
        port.open()
        driver = ModbusRtu(
            port, options(registers=table, timeout_s=5.0, interval_s=10.0), time.monotonic_ns
        )
        driver.open()
        assert values(driver.poll()) == expected
        assert driver.frame_errors == 0
        beyond = [{"register": 1000, "quantity": "q"}]
        stranger = ModbusRtu(port, options(registers=beyond, timeout_s=5.0), time.monotonic_ns)
        with pytest.raises(FrameError, match="exception 02, illegal data address"):
            stranger.poll()
        port.close()


def test_the_simulated_device_satisfies_minimalmodbus() -> None:
    device = ModbusDevice(7, words(1, 0xFFFE), {2: lambda _: packed("f32", "ABCD", 1.5)})
    device.turnaround_s = 0.0
    with Pty([device], time.monotonic) as pty:
        instrument = minimalmodbus.Instrument(pty.path, 7)
        instrument.serial.baudrate = 9600
        instrument.serial.timeout = 5.0
        assert instrument.read_register(0) == 1
        assert instrument.read_register(1, signed=True) == -2
        assert instrument.read_float(2, functioncode=4) == 1.5
        with pytest.raises(minimalmodbus.IllegalRequestError):
            instrument.read_register(50)
        instrument.serial.close()
