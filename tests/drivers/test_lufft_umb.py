from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.base import (
    BusError,
    Driver,
    FrameError,
    IdentityError,
    LineSettings,
    Reading,
    SerialDriver,
    Trouble,
)
from drivers.buses import LinuxSerial
from drivers.lufft_umb import (
    MASTER,
    Answer,
    ChannelOptions,
    ChannelValue,
    Frame,
    LufftUmb,
    LufftUmbOptions,
    UmbFramer,
    decode,
    encode,
    reason_of,
    request,
)
from hil.buses import Pty, SimulatedSerial
from hil.devices.lufft import UmbDevice, irs31pro, shm31, winter_condition, winter_road_c
from hil.rig import Now

WS_REQUEST = bytes.fromhex("01 10 01 70 01 F0 04 02 23 10 64 00 03 61 D9 04")
WS_RESPONSE = bytes.fromhex("01 10 01 F0 01 70 0A 02 23 10 00 64 00 16 00 00 B4 41 03 C6 22 04")
SHM31_REQUEST = bytes.fromhex("01 10 01 B0 01 F0 04 02 23 10 5C 02 03 30 59 04")
SHM31_RESPONSE = bytes.fromhex("01 10 01 F0 01 B0 0A 02 23 10 00 5C 02 16 B1 FF 0D 42 03 DE BC 04")
SHM31_TO_ASCII = bytes.fromhex("01 10 01 B0 01 F0 06 02 22 10 75 00 01 09 03 71 25 04")
SHM31_RESET = bytes.fromhex("01 10 01 B0 01 F0 03 02 25 10 10 03 EC 44 04")

F32 = 0x16


class Nowhere:
    """A port that drivers under `feed` never touch."""

    def read(self, timeout_s: float) -> bytes:
        raise AssertionError

    def write(self, data: bytes) -> None:
        raise AssertionError

    def discard_input(self) -> None:
        raise AssertionError


def passive(**options: object) -> LufftUmb:
    return LufftUmb(Nowhere(), LufftUmbOptions(**options), now_ns=lambda: 0)


def response(payload: bytes, command: int = 0x2F, sender: int = 0xB001) -> bytes:
    return encode(Frame(MASTER, sender, command, 0x10, payload))


def item(channel: int, kind: int, packed: bytes) -> bytes:
    """One channel of a multi-channel answer, good."""
    return bytes((4 + len(packed), 0)) + struct.pack("<HB", channel, kind) + packed


def items(*each: bytes) -> bytes:
    return bytes((0, len(each))) + b"".join(each)


def values(observations: Sequence[object]) -> dict[str, float | str | None]:
    return {each.quantity: each.value for each in observations if isinstance(each, Reading)}


@pytest.fixture(scope="module")
def dialogue(recordings: Path) -> list[bytes]:
    """The lines of a real RS-485 dialogue, requests and responses in turn."""
    text = (recordings / "umb/ws10_dialogue.txt").read_text()
    return [bytes.fromhex(line.split("> ")[1]) for line in text.splitlines() if line]


# --- the codec ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "vector",
    [WS_REQUEST, WS_RESPONSE, SHM31_REQUEST, SHM31_RESPONSE, SHM31_TO_ASCII, SHM31_RESET],
)
def test_each_published_frame_is_read_and_written_alike(vector: bytes) -> None:
    framer = UmbFramer()
    (frame,) = framer.feed(vector)
    assert encode(frame) == vector
    assert framer.errors == 0


def test_the_published_answers_mean_what_is_published() -> None:
    (ws,) = UmbFramer().feed(WS_RESPONSE)
    (shm31,) = UmbFramer().feed(SHM31_RESPONSE)
    assert decode(ws) == Answer(0, (ChannelValue(100, 0, 22.5),))
    (depth,) = decode(shm31).values
    assert depth.channel == 604
    assert depth.raw == pytest.approx(35.4997, abs=5e-5)


def test_our_question_equals_the_recorded_one(dialogue: list[bytes]) -> None:
    assert request(0x7009, [200, 600, 4700, 22304, 24100]) == dialogue[0]
    assert request(0x7009, [200]) == dialogue[2]


@pytest.mark.parametrize(
    ("kind", "packed", "value"),
    [
        (0x10, b"\xfe", 254),
        (0x11, b"\xfe", -2),
        (0x12, b"\x01\x80", 32769),
        (0x13, b"\x01\x80", -32767),
        (0x14, b"\x01\x00\x00\x80", 2147483649),
        (0x15, b"\x01\x00\x00\x80", -2147483647),
        (0x16, struct.pack("<f", -1.25), -1.25),
        (0x17, struct.pack("<d", 0.1), 0.1),
    ],
)
def test_every_value_type_is_decoded_in_both_kinds_of_answer(
    kind: int, packed: bytes, value: float
) -> None:
    single = b"\x00" + item(7, kind, packed)[2:]
    for frame in (
        Frame(MASTER, 0xB001, 0x23, 0x10, single),
        Frame(MASTER, 0xB001, 0x2F, 0x10, items(item(7, kind, packed))),
    ):
        assert decode(frame).values == (ChannelValue(7, 0, value),)


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        (0x23, ""),
        (0x23, "00 64"),
        (0x23, "00 64 00"),
        (0x23, "00 64 00 16 00 00 B4"),
        (0x23, "00 64 00 16 00 00 B4 41 00"),
        (0x23, "00 64 00 18 00 00 B4 41"),
        (0x2F, ""),
        (0x2F, "00 02 08 00 C8 00 16 AB F8 29 42"),
        (0x2F, "00 01 09 00 C8 00 16 AB F8 29 42"),
        (0x2F, "00 01 08 00 C8 00 16 AB F8 29 42 00"),
        (0x2F, "00 01 00"),
        (0x2F, "00 01 02 00 C8"),
        (0x2F, "00 01 03 00 C8 00"),
    ],
)
def test_an_answer_not_built_as_its_command_wants_is_a_frame_error(
    command: int, payload: str
) -> None:
    frame = Frame(MASTER, 0xB001, command, 0x10, bytes.fromhex(payload))
    with pytest.raises(FrameError):
        decode(frame)
    driver = passive()
    assert driver.feed(encode(frame), 0) == []
    assert (driver.frames, driver.frame_errors) == (0, 1)


# --- the framer -----------------------------------------------------------------------------------


def test_a_recorded_dialogue_is_cut_alike_whole_and_byte_by_byte(dialogue: list[bytes]) -> None:
    stream = b"".join(dialogue)
    framer = UmbFramer()
    frames = [frame for byte in stream for frame in framer.feed(bytes((byte,)))]
    assert frames == UmbFramer().feed(stream)
    assert [encode(frame) for frame in frames] == dialogue
    assert framer.errors == 0


@settings(deadline=None)
@given(st.data())
def test_any_slicing_of_frames_and_junk_gives_the_same(data: st.DataObject) -> None:
    parts = st.sampled_from([WS_RESPONSE, SHM31_REQUEST, b"\x01", b"\x01\x10", b"\xff\x00"])
    stream = b"".join(data.draw(st.lists(parts | st.binary(max_size=5))))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    whole, sliced = UmbFramer(), UmbFramer()
    expected = whole.feed(stream)
    found = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b])
    assert found == expected
    assert sliced.errors == whole.errors


@pytest.mark.parametrize("junk", [b"\x00", b"\xff\xff", b"\x01", b"\x01\x10", WS_RESPONSE[:-1]])
def test_junk_before_between_and_after_costs_no_frame(junk: bytes) -> None:
    framer = UmbFramer()
    frames = framer.feed(junk + WS_RESPONSE + junk + SHM31_RESPONSE + junk + WS_RESPONSE + junk)
    frames += framer.flush()
    assert [encode(frame) for frame in frames] == [WS_RESPONSE, SHM31_RESPONSE, WS_RESPONSE]
    assert framer.errors == 4


def test_each_flipped_bit_is_noticed_and_the_next_frame_is_found() -> None:
    for bit in range(8 * len(SHM31_RESPONSE)):
        damaged = bytearray(SHM31_RESPONSE)
        damaged[bit // 8] ^= 1 << bit % 8
        framer = UmbFramer()
        frames = framer.feed(bytes(damaged) + WS_RESPONSE)
        frames += framer.flush()  # a length grown too long swallows what follows until then
        assert [encode(frame) for frame in frames] == [WS_RESPONSE]
        assert framer.errors == 1


@settings(deadline=None)
@given(st.lists(st.binary(max_size=300) | st.just(b"\x01\x10\x00\x00\x00\x00\xd4\x02")))
def test_random_bytes_never_raise_and_never_pile_up(chunks: list[bytes]) -> None:
    driver = passive()
    for chunk in chunks:
        driver.feed(chunk, 0)
        assert len(driver._framer._seeking._rest) < 224


def test_endless_noise_is_one_error_and_the_first_good_frame_after_it_counts() -> None:
    driver = passive(model="shm31")
    for _ in range(1000):
        driver.feed(b"\x55\xaa" * 50, 0)
    assert values(driver.feed(SHM31_RESPONSE, 0)) == {"depth_cm": pytest.approx(35.4997, abs=5e-5)}
    assert (driver.frames, driver.frame_errors) == (1, 1)


# --- passive decoding -----------------------------------------------------------------------------


def test_the_seven_recorded_responses_are_decoded_without_an_error(dialogue: list[bytes]) -> None:
    driver = passive()
    found = [driver.feed(line, at) for at, line in enumerate(dialogue)]
    assert (driver.frames, driver.frame_errors) == (7, 0)
    assert all(not each for each in found[::2])  # questions
    assert values(found[1]) == {
        "channel_200": pytest.approx(42.49, abs=0.005),
        "channel_600": 0.0,
        "channel_4700": 211,
        "channel_22304": 1295,
        "channel_24100": 0,
    }
    assert {each.at_boot_ns for each in found[1]} == {1}
    assert values(found[3]) == values(found[5]) == {"channel_200": pytest.approx(42.49, abs=0.005)}
    assert not any(found[i] for i in (7, 9, 11, 13))  # device information, EEPROM


def test_a_configured_channel_has_its_name_and_scale(dialogue: list[bytes]) -> None:
    driver = passive(
        channels=[
            {"channel": 200, "quantity": "humidity_percent", "unit": "%"},
            {"channel": 4700, "quantity": "height_m", "unit": "m", "scale": 0.1},
        ],
        kind="weather",
    )
    assert driver.kind == "weather"
    found = values(driver.feed(dialogue[1], 0))
    assert found["humidity_percent"] == pytest.approx(42.49, abs=0.005)
    assert found["height_m"] == pytest.approx(21.1)
    assert found["channel_600"] == 0.0


def test_without_an_address_every_device_is_heard_and_with_one_only_that() -> None:
    both = WS_RESPONSE + SHM31_RESPONSE
    assert set(values(passive().feed(both, 0))) == {"channel_100", "channel_604"}
    one = passive(address=0x7001)
    assert set(values(one.feed(both, 0))) == {"channel_100"}
    assert (one.frames, one.frame_errors) == (1, 0)


def test_a_masters_frames_are_neither_decoded_nor_counted() -> None:
    driver = passive()
    echo_like_an_answer = encode(Frame(0x7001, MASTER, 0x23, 0x10, WS_RESPONSE[10:18]))
    assert driver.feed(WS_REQUEST + echo_like_an_answer, 0) == []
    assert (driver.frames, driver.frame_errors) == (0, 0)


# --- what a device complains about is never a value -----------------------------------------------


@pytest.mark.parametrize("status", range(1, 256))
def test_no_status_of_a_channel_becomes_a_value(status: int) -> None:
    for payload, command in (
        (bytes((0, 1, 3, status)) + struct.pack("<H", 604), 0x2F),
        (bytes((0, 1, 8, status)) + struct.pack("<HBf", 604, F32, 12.5), 0x2F),
        (bytes((status,)) + struct.pack("<H", 604), 0x23),
        (bytes((status,)) + struct.pack("<HBf", 604, F32, 12.5), 0x23),
    ):
        driver = passive(model="shm31")
        (reading,) = driver.feed(response(payload, command), 5)
        assert reading == Reading("depth_cm", None, 5, (reason_of(status),))
        assert (driver.frames, driver.frame_errors) == (1, 0)


@pytest.mark.parametrize("command", [0x23, 0x2F])
def test_a_status_for_all_channels_is_trouble_when_nobody_knows_what_was_asked(
    command: int,
) -> None:
    assert passive().feed(response(b"\x28", command), 5) == [Trouble("warmup", 5)]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (0x28, "warmup"),
        (0x50, "out_of_range"),
        (0x53, "out_of_range"),
        (0x54, "weak_signal"),
        (0x55, "weak_signal"),
        (0x2B, "weak_signal"),
        (0x36, "uncalibrated"),
        (0x37, "maintenance"),
        (0x2A, "bus_error"),
        (0x24, "frame_error"),
        (0xFF, "frame_error"),
    ],
)
def test_each_status_has_its_word_in_the_contract(status: int, reason: str) -> None:
    assert reason_of(status) == reason


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_float_that_is_no_number_is_no_value(number: float) -> None:
    frame = response(items(item(604, F32, struct.pack("<f", number)), item(9, 0x17, b"\xff" * 8)))
    assert values(passive(model="shm31").feed(frame, 0)) == {"depth_cm": None, "channel_9": None}


def test_a_number_too_large_for_its_scale_is_no_value() -> None:
    driver = passive(channels=[{"channel": 9, "quantity": "x", "scale": 10}])
    frame = response(items(item(9, 0x17, struct.pack("<d", 1e308))))
    assert values(driver.feed(frame, 0)) == {"x": None}


def test_the_error_numbers_of_the_tls_channels_are_no_values() -> None:
    frame = response(
        items(
            item(1072, 0x12, b"\xff\xff"),
            item(1075, 0x10, b"\xff"),
            item(1076, 0x12, b"\xff\xff"),
            item(1077, 0x10, b"\xff"),
        )
    )
    found = passive(model="irs31pro").feed(frame, 0)
    assert values(found) == dict.fromkeys(("water_film_mm", "snow_mm", "ice_mm", "friction"))
    assert {each.reasons for each in found if isinstance(each, Reading)} == {("weak_signal",)}


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        (10, "dry"),
        (15, "moist"),
        (20, "wet"),
        (25, "wet_salt"),
        (30, "wet_salt"),
        (35, "ice"),
        (40, "snow"),
        (45, "frost"),
        (99, "unknown"),
    ],
)
def test_the_code_of_the_road_becomes_a_class_and_stays_a_code(code: int, condition: str) -> None:
    frame = response(items(item(900, 0x10, bytes((code,)))))
    expected = {"condition": condition, "condition_code": str(code)}
    assert values(passive(model="irs31pro").feed(frame, 0)) == expected
    marwis = passive(channels=[{"channel": 900, "quantity": "condition"}])
    assert values(marwis.feed(frame, 0)) == expected
    assert set(marwis.quantities) == set(expected)
    assert all(each.is_class for each in marwis.quantities.values())


def test_a_condition_that_could_not_be_told_has_neither_class_nor_code() -> None:
    frame = response(bytes.fromhex("00 01 03 55 84 03"))
    found = passive(model="irs31pro").feed(frame, 0)
    assert values(found) == {"condition": None, "condition_code": None}


# --- options --------------------------------------------------------------------------------------


def test_the_models_know_their_address_kind_and_quantities() -> None:
    road, snow = LufftUmbOptions(model="irs31pro"), LufftUmbOptions(model="shm31")
    assert road.claims() == ["UMB address 0x1001"]
    assert snow.claims() == ["UMB address 0xB001"]
    assert road.missing_to_measure() == snow.missing_to_measure() == []
    assert passive(model="irs31pro").kind == "road"
    assert passive(model="shm31").kind == "snow"
    assert set(passive(model="shm31").quantities) == {"depth_cm"}
    assert set(passive(model="irs31pro").quantities) == {
        "surface_temperature_c",
        "condition",
        "condition_code",
        "water_film_mm",
        "ice_mm",
        "snow_mm",
        "friction",
        "freezing_temperature_c",
    }
    named = {quantity.name for quantity in LufftUmb.spec.quantities}
    assert named >= set(passive(model="irs31pro").quantities)


def test_a_generic_device_asks_for_what_it_needs() -> None:
    assert [each.split(":")[0] for each in LufftUmbOptions().missing_to_measure()] == [
        "address",
        "channels",
    ]
    assert LufftUmbOptions().claims() == []
    enough = LufftUmbOptions(address=0x7001, channels=[{"channel": 100, "quantity": "air_c"}])
    assert enough.missing_to_measure() == []


@pytest.mark.parametrize(
    "options",
    [
        {"model": "shm31", "channels": [{"channel": 1, "quantity": "x"}]},
        {"model": "shm31", "kind": "road"},
        {"channels": [{"channel": 1, "quantity": "x"}, {"channel": 1, "quantity": "y"}]},
        {"channels": [{"channel": 1, "quantity": "x"}, {"channel": 2, "quantity": "x"}]},
        {
            "channels": [
                {"channel": 1, "quantity": "condition"},
                {"channel": 2, "quantity": "condition_code"},
            ]
        },
        {"channels": [{"channel": 65536, "quantity": "x"}]},
        {"address": 0xF001},
        {"address": 0x10000},
        {"kind": "people"},
        {"baud": 9600},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LufftUmbOptions(**options)


# --- asking a device, in simulated time -----------------------------------------------------------


@pytest.fixture
def now() -> Now:
    return Now()


Asking = Callable[..., tuple[LufftUmb, SimulatedSerial]]


@pytest.fixture
def asking(now: Now) -> Asking:
    """Build a driver on a simulated line with devices."""

    def build(
        *devices: object, echo: bool = False, **options: object
    ) -> tuple[LufftUmb, SimulatedSerial]:
        port = SimulatedSerial(devices, now, wait_s=now.advance, echo=echo)
        port.open()
        driver = LufftUmb(port, LufftUmbOptions(**options), now.ns)
        as_the_gateway_sees_it: Driver = driver
        with suppress(BusError, FrameError):  # of those that are silent or broken from the start
            as_the_gateway_sees_it.open()
        assert isinstance(driver, SerialDriver)
        return driver, port

    return build


def test_a_poll_gives_every_quantity_once_at_one_time(asking: Asking, now: Now) -> None:
    driver, _ = asking(irs31pro(), model="irs31pro")
    asked_at_ns = now.ns()
    found = driver.poll()
    assert sorted(values(found)) == sorted(driver.quantities)
    assert len(found) == len(driver.quantities)
    assert {each.at_boot_ns for each in found} == {asked_at_ns}
    assert (driver.frames, driver.frame_errors) == (2, 0), "its name, and its values"


def test_values_follow_the_truth_through_a_day(asking: Asking, now: Now) -> None:
    driver, _ = asking(irs31pro(), model="irs31pro")
    conditions = {10: "dry", 20: "wet", 35: "ice", 45: "frost"}
    for _ in range(48):
        true_c = winter_road_c(now.s)
        found = values(driver.poll())
        assert found["surface_temperature_c"] == pytest.approx(true_c, abs=0.5)
        assert found["condition"] == conditions[winter_condition(true_c)]
        assert found["friction"] == (0.2 if found["condition"] == "ice" else 0.65)
        now.advance(1800.0)


def test_more_than_twenty_channels_are_asked_for_in_turns(asking: Asking) -> None:
    device = UmbDevice(0x7001, {n: (F32, lambda _, n=n: n / 2) for n in range(100, 145)})
    channels = [ChannelOptions(channel=n, quantity=f"q{n}") for n in range(100, 145)]
    driver, _ = asking(device, address=0x7001, channels=channels)
    before = driver.frames
    assert values(driver.poll()) == {f"q{n}": n / 2 for n in range(100, 145)}
    assert driver.frames - before == 3


def test_a_question_unanswered_among_several_costs_only_its_own_channels(asking: Asking) -> None:
    class Deaf(UmbDevice):
        """Does not answer for channel 21."""

        def hear(self, data: bytes, now_s: float) -> None:
            if b"\x15\x00" not in data:
                super().hear(data, now_s)

    device = Deaf(0x7001, {n: (F32, lambda _: 1.0) for n in range(1, 22)})
    channels = [ChannelOptions(channel=n, quantity=f"q{n}") for n in range(1, 22)]
    driver, _ = asking(device, address=0x7001, channels=channels)
    found = driver.poll()
    assert values(found) == {**{f"q{n}": 1.0 for n in range(1, 21)}, "q21": None}
    assert found[-1].reasons == ("bus_error",)


def test_a_silent_address_is_a_bus_error_that_says_what_to_check(asking: Asking, now: Now) -> None:
    driver, _ = asking(shm31(), model="irs31pro")
    before_s = now.s
    with pytest.raises(BusError) as caught:
        driver.poll()
    assert str(caught.value) == (
        "nobody answers at UMB address 0x1001 (class 1, device 1): "
        "check power, A/B wires, baud 19200 8N1"
    )
    assert now.s - before_s == pytest.approx(0.5, abs=0.01), "one question, and its time-out"
    assert driver.frames == 0


def test_a_device_without_address_cannot_be_asked(asking: Asking) -> None:
    driver, _ = asking(channels=[{"channel": 1, "quantity": "x"}])
    with pytest.raises(BusError, match="no UMB address"):
        driver.poll()


def test_of_many_questions_the_first_without_an_answer_is_the_last(
    asking: Asking, now: Now
) -> None:
    device = UmbDevice(0x7001, {n: (F32, lambda _: 1.0) for n in range(1, 81)})
    channels = [ChannelOptions(channel=n, quantity=f"q{n}") for n in range(1, 81)]
    driver, port = asking(device, address=0x7001, channels=channels)
    port.line.silence(device)
    before_s = now.s
    with pytest.raises(BusError):
        driver.poll()
    assert now.s - before_s == pytest.approx(0.5, abs=0.01)


def test_a_device_says_its_name_when_it_is_found(asking: Asking) -> None:
    driver, _ = asking(shm31(), model="shm31")
    assert driver.identity == "SHM31"


def test_a_device_of_another_model_is_named_and_not_used(now: Now) -> None:
    port = SimulatedSerial([irs31pro(0xB001)], now, wait_s=now.advance)
    port.open()
    driver = LufftUmb(port, LufftUmbOptions(model="shm31"), now.ns)
    with pytest.raises(IdentityError, match='calls itself "IRS31Pro": that is a irs31pro, not'):
        driver.open()


def test_a_name_that_says_nothing_is_no_reason_to_refuse(now: Now) -> None:
    device = UmbDevice(0xB001, {604: (F32, lambda _: 30.0)}, name="")
    port = SimulatedSerial([device], now, wait_s=now.advance)
    port.open()
    driver = LufftUmb(port, LufftUmbOptions(model="shm31"), now.ns)
    driver.open()
    assert values(driver.poll()) == {"depth_cm": 30.0}


def test_a_number_outside_of_what_the_model_can_say_is_no_value(asking: Asking) -> None:
    driver, _ = asking(shm31(depth_cm=lambda _: 4000.0), model="shm31")
    (reading,) = driver.poll()
    assert (reading.value, reading.reasons) == (None, ("out_of_range",))


def test_the_same_answer_for_too_long_is_stuck_until_it_changes(asking: Asking, now: Now) -> None:
    depth_cm = [42.0]
    driver, _ = asking(shm31(depth_cm=lambda _: depth_cm[0], noise_cm=0.0), model="shm31")
    for _ in range(60):
        assert values(driver.poll()) == {"depth_cm": 42.0}
        now.advance(59.0)
    now.advance(61.0)
    (reading,) = driver.poll()
    assert (reading.value, reading.reasons) == (None, ("stuck",))
    depth_cm[0] = 42.1
    assert values(driver.poll()) == {"depth_cm": pytest.approx(42.1, abs=1e-4)}
    patient, _ = asking(shm31(depth_cm=lambda _: 42.0, noise_cm=0.0), model="shm31", stuck_s=0.0)
    patient.poll()
    now.advance(1e6)
    assert values(patient.poll()) == {"depth_cm": 42.0}


def test_a_scan_finds_the_devices_of_a_line_and_proposes_their_options(now: Now) -> None:
    devices = [irs31pro(), shm31(), UmbDevice(0x7002, {}, name="WS600-UMB")]
    port = SimulatedSerial(devices, now, wait_s=now.advance, echo=True)
    port.open()
    found = list(LufftUmb.discover(port, now.ns, now.ns() + 60_000_000_000))
    assert [(each.what, dict(each.options)) for each in found] == [
        ("IRS31Pro (UMB address 0x1001)", {"model": "irs31pro", "address": 0x1001}),
        ("SHM31 (UMB address 0xB001)", {"model": "shm31", "address": 0xB001}),
        ("WS600-UMB (UMB address 0x7002)", {"model": "generic", "address": 0x7002}),
    ]


def test_a_scan_of_an_empty_line_ends_in_time(now: Now) -> None:
    port = SimulatedSerial([], now, wait_s=now.advance)
    port.open()
    until_s = now.s + 3.0
    assert list(LufftUmb.discover(port, now.ns, round(until_s * 1e9))) == []
    assert now.s <= until_s


def test_a_late_answer_to_another_question_is_not_taken_for_this_one(asking: Asking) -> None:
    stale = response(items(item(605, F32, struct.pack("<f", 99.0))))

    class Confused(UmbDevice):
        """Sends an old answer before each."""

        def speak(self, now_s: float) -> bytes:
            said = super().speak(now_s)
            return stale + said if said else b""

    driver, _ = asking(Confused(0xB001, {604: (F32, lambda _: 30.0)}), model="shm31")
    assert values(driver.poll()) == {"depth_cm": 30.0}


def test_only_garbage_is_a_frame_error(asking: Asking) -> None:
    class Broken(UmbDevice):
        """Its transmitter damages every byte."""

        def speak(self, now_s: float) -> bytes:
            return bytes(byte ^ 0x40 for byte in super().speak(now_s))

    driver, _ = asking(Broken(0xB001, {604: (F32, lambda _: 30.0)}), model="shm31")
    before = driver.frame_errors
    with pytest.raises(FrameError, match="only damaged answers from UMB address 0xB001"):
        driver.poll()
    assert (driver.frames, driver.frame_errors - before) == (0, 1)


def test_an_answer_that_hides_behind_a_false_beginning_is_found(asking: Asking) -> None:
    class Stuttering(UmbDevice):
        """Puts what looks like the head of a long frame before each answer."""

        def speak(self, now_s: float) -> bytes:
            said = super().speak(now_s)
            return bytes.fromhex("01 10 01 F0 01 B0 D4 02") + said if said else b""

    driver, _ = asking(Stuttering(0xB001, {604: (F32, lambda _: 30.0)}), model="shm31")
    assert values(driver.poll()) == {"depth_cm": 30.0}


@pytest.mark.parametrize("status", [0x28, 0x2A, 0x10, 0xFF])
def test_a_device_that_answers_with_a_status_alone_gives_no_value(
    asking: Asking, status: int
) -> None:
    device = irs31pro()
    device.status = status
    driver, _ = asking(device, model="irs31pro")
    found = driver.poll()
    assert values(found) == dict.fromkeys(driver.quantities)
    assert {each.reasons for each in found} == {(reason_of(status),)}
    assert driver.frame_errors == 0


def test_a_device_is_warming_up_until_it_is_ready(asking: Asking, now: Now) -> None:
    driver, _ = asking(shm31(busy_s=20.0), model="shm31")
    (reading,) = driver.poll()
    assert (reading.value, reading.reasons) == (None, ("warmup",))
    now.advance(20.0)
    (reading,) = driver.poll()
    assert reading.value == pytest.approx(30.0, abs=11.0)


def test_a_failing_channel_leaves_the_others_alone(asking: Asking) -> None:
    device = irs31pro()
    device.channel_status[101] = 0x55
    driver, _ = asking(device, model="irs31pro")
    found = {each.quantity: each for each in driver.poll()}
    assert found["surface_temperature_c"].value is None
    assert found["surface_temperature_c"].reasons == ("weak_signal",)
    assert found["freezing_temperature_c"].value == -1.5


def test_a_channel_that_this_unit_of_the_model_lacks_is_not_complained_of(asking: Asking) -> None:
    device = irs31pro()
    del device.channels[1077]
    driver, _ = asking(device, model="irs31pro")
    found = {each.quantity: each for each in driver.poll()}
    assert "friction" not in found
    assert found["ice_mm"].value is not None


def test_a_channel_that_was_configured_and_does_not_exist_is_an_error(asking: Asking) -> None:
    channels = [{"channel": n, "quantity": f"q{n}_c"} for n in (604, 605)]
    driver, _ = asking(shm31(), model="generic", address=0xB001, channels=channels)
    found = {each.quantity: each for each in driver.poll()}
    assert found["q604_c"].value is not None
    assert found["q605_c"].reasons == ("frame_error",)


def test_our_own_echo_is_neither_an_answer_nor_an_error(asking: Asking) -> None:
    driver, _ = asking(shm31(), echo=True, model="shm31")
    assert values(driver.poll())["depth_cm"] is not None
    assert (driver.frames, driver.frame_errors) == (2, 0)
    alone, _ = asking(echo=True, model="shm31")
    with pytest.raises(BusError):
        alone.poll()


@pytest.mark.parametrize("echo", [False, True])
def test_on_a_garbled_line_what_comes_through_is_true(asking: Asking, echo: bool) -> None:
    driver, port = asking(shm31(depth_cm=lambda _: 77.0, noise_cm=0.0), echo=echo, model="shm31")
    port.line.garble(0.02)
    answered = 0
    for _ in range(100):
        try:
            assert values(driver.poll()) == {"depth_cm": 77.0}
            answered += 1
        except (BusError, FrameError):
            continue
    assert answered > 20, "a third of all questions and answers pass whole"
    assert driver.frame_errors > 0


def test_two_devices_share_a_line_and_a_dead_one_does_not_stop_the_other(
    asking: Asking, now: Now
) -> None:
    road_device, snow_device = irs31pro(), shm31()
    snow, port = asking(road_device, snow_device, model="shm31")
    road = LufftUmb(port, LufftUmbOptions(model="irs31pro"), now.ns)
    assert values(road.poll())["surface_temperature_c"] is not None
    port.line.silence(road_device)
    with pytest.raises(BusError):
        road.poll()
    assert values(snow.poll())["depth_cm"] is not None
    port.line.heal()
    assert values(road.poll())["surface_temperature_c"] is not None


def test_a_vanished_adapter_is_a_bus_error(asking: Asking) -> None:
    driver, port = asking(shm31(), model="shm31")
    port.unplug()
    with pytest.raises(BusError):
        driver.poll()


# --- the same over a real terminal ----------------------------------------------------------------


@pytest.fixture
def devices() -> tuple[UmbDevice, UmbDevice]:
    return irs31pro(turnaround_s=(0.0, 0.02)), shm31(turnaround_s=(0.0, 0.02))


@pytest.fixture(params=[False, True], ids=["plain", "echo"])
def wire(
    request: pytest.FixtureRequest, devices: tuple[UmbDevice, UmbDevice]
) -> Iterator[tuple[Pty, LinuxSerial]]:
    assert LufftUmb.spec.line == LineSettings(19200)
    with Pty(devices, time.monotonic, echo=request.param) as pty:
        port = LinuxSerial(pty.path, LufftUmb.spec.line)
        port.open()
        yield pty, port
        port.close()


def test_over_a_real_terminal_one_dead_device_does_not_stop_the_other(
    wire: tuple[Pty, LinuxSerial], devices: tuple[UmbDevice, UmbDevice]
) -> None:
    pty, port = wire
    road, snow = (
        LufftUmb(port, LufftUmbOptions(model=model, timeout_s=timeout_s), time.monotonic_ns)
        for model, timeout_s in (("irs31pro", 0.2), ("shm31", 5.0))
    )
    assert values(road.poll())["condition"] in ("wet", "ice", "frost")
    assert values(snow.poll())["depth_cm"] is not None
    pty.line.silence(devices[0])
    with pytest.raises(BusError):
        road.poll()
    assert values(snow.poll())["depth_cm"] is not None
    assert snow.frame_errors == 0


def test_over_a_real_terminal_a_device_comes_back_after_its_adapter_was_pulled(
    wire: tuple[Pty, LinuxSerial],
) -> None:
    pty, port = wire
    snow = LufftUmb(port, LufftUmbOptions(model="shm31", timeout_s=5.0), time.monotonic_ns)
    assert snow.poll()
    pty.unplug()
    with pytest.raises(BusError):
        snow.poll()
    port.close()
    pty.plug()
    port.open()
    assert values(snow.poll())["depth_cm"] is not None


# --- the simulated device, against the published bytes --------------------------------------------


def test_the_simulated_device_answers_the_published_question_with_the_published_bytes() -> None:
    device = UmbDevice(0x7001, {100: (F32, lambda _: 22.5)}, turnaround_s=(0.0, 0.0))
    device.hear(WS_REQUEST, 0.0)
    assert device.speak(0.0) == WS_RESPONSE
    snow = UmbDevice(0xB001, {604: (F32, lambda _: struct.unpack("<f", SHM31_RESPONSE[14:18])[0])})
    snow.hear(b"\xff\x01\x10" + SHM31_REQUEST[:9], 0.0)
    snow.hear(SHM31_REQUEST[9:], 0.01)
    assert snow.speak(0.02) == b""  # it takes its time
    assert snow.speak(0.2) == SHM31_RESPONSE


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40) | st.just(SHM31_REQUEST)))
def test_the_simulated_device_survives_any_line(chunks: list[bytes]) -> None:
    device = shm31(turnaround_s=(0.0, 0.0))
    for chunk in chunks:
        device.hear(chunk, 0.0)
    device.speak(0.0)
    device.hear(SHM31_REQUEST, 10.0)  # after a pause everything is forgotten
    (frame,) = UmbFramer().feed(device.speak(10.0))
    assert decode(frame).values[0].channel == 604


@pytest.mark.parametrize("command", [0x20, 0x26, 0x2D, 0x21, 0x99])
def test_the_simulated_device_answers_other_commands_and_the_driver_ignores_them(
    command: int,
) -> None:
    device = shm31(turnaround_s=(0.0, 0.0))
    device.hear(encode(Frame(0xB001, MASTER, command, 0x10, b"\x15")), 0.0)
    driver = passive()
    assert driver.feed(device.speak(0.0), 0) == []
    assert (driver.frames, driver.frame_errors) == (1, 0)
