"""A GNSS receiver's sentences: what is taken from them, what never is, and at which speed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pynmeagps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import drivers.nmea
from drivers.base import (
    BUILT_NS,
    BusError,
    Driver,
    Fix,
    FrameError,
    Observation,
    Reading,
    SerialDriver,
    Trouble,
)
from drivers.buses import LinuxSerial
from drivers.nmea import (
    HDOP,
    SENTENCE_BYTES_MAX,
    SPEED_MAX_M_S,
    STRAYS_BELIEVED,
    NmeaGnss,
    NmeaOptions,
    Said,
    Sentences,
    decode,
    distance_m,
)
from hil.buses import Pty, SimulatedSerial
from hil.devices.gnss import GnssReceiver
from hil.rig import Now

S = 1_000_000_000
WEEKS_1024_S = 1024 * 7 * 86_400
NOON_S = 1_800_014_400  # 2027-01-15T12:00:00Z
TALKERS = ("GP", "GN", "GL", "GA", "GB", "GQ", "QZ")
RMC = "GPRMC,123519.00,A,4807.038,N,01131.000,E,022.4,084.4,150127,,,A"
GGA = "GPGGA,123519.00,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,"
NEXT = "GPRMC,123520.00,A,4807.038,N,01131.000,E,022.4,084.4,150127,,,A"


def line(text: str, end: bytes = b"\r\n") -> bytes:
    total = reduce(lambda a, b: a ^ b, text.encode(), 0)
    return f"${text}*{total:02X}".encode() + end


def passive(**options: object) -> NmeaGnss:
    driver = NmeaGnss(SimulatedSerial([], lambda: 0.0), NmeaOptions(**options), lambda: 0)
    assert isinstance(driver, SerialDriver)
    return driver


class Drive:
    """A driver that listens to an emulated receiver in simulated time."""

    def __init__(self, device: GnssReceiver, now: Now, **options: object) -> None:
        self.now, self.device = now, device
        self.port = SimulatedSerial([device], now, wait_s=now.advance, baud=9600)
        self.port.open()
        self.driver = NmeaGnss(self.port, NmeaOptions(**options), now.ns)
        as_the_gateway_sees_it: Driver = self.driver
        as_the_gateway_sees_it.open()

    def lives(self, seconds: float) -> list[Observation]:
        until_s = self.now.s + seconds
        found: list[Observation] = []
        while self.now.s < until_s:
            found += self.driver.poll()
            self.now.advance(self.driver.interval_s)
        return found


def receiver(now: Now, **features: Any) -> GnssReceiver:
    start_s = now.s
    return GnssReceiver(lambda now_s: NOON_S + now_s - start_s, **features)


def fixes(observations: Sequence[Observation]) -> list[Fix]:
    return [each for each in observations if isinstance(each, Fix)]


def of(quantity: str, observations: Sequence[Observation]) -> list[float | str | None]:
    return [
        each.value
        for each in observations
        if isinstance(each, Reading) and each.quantity == quantity
    ]


def reasons(observations: Sequence[Observation]) -> list[str]:
    return [each.reason for each in observations if isinstance(each, Trouble)]


# Sentences


def test_the_example_of_the_standard_is_its_place_and_its_quality() -> None:
    text = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
    (body,) = Sentences().feed(text)
    assert decode(body) == Said(
        "GGA", 45_319_000, True, (48 + 7.038 / 60, 11 + 31 / 60), satellites=8, hdop=0.9
    )


def test_rmc_is_place_speed_and_date() -> None:
    assert decode(RMC.encode()) == Said(
        "RMC",
        45_319_000,
        True,
        (48 + 7.038 / 60, 11 + 31 / 60),
        pytest.approx(22.4 * 1852 / 3600),
        date(2027, 1, 15),
    )


@pytest.mark.parametrize("talker", TALKERS)
def test_every_talker_is_heard(talker: str) -> None:
    said = decode(talker.encode() + RMC.encode()[2:])
    assert said is not None
    assert said.kind == "RMC"


@pytest.mark.parametrize(
    "text", ["PUBX,00,1", "PMTK010,001", "GPGSV,1,1,00,1", "GNGSA,A,1", "HCHDM,1,M", "GPXYZ,1", "G"]
)
def test_what_is_not_taken_is_a_frame_and_no_error(text: str) -> None:
    driver = passive()
    assert driver.feed(line(text), 0) == []
    assert (driver.frames, driver.frame_errors) == (1, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("4807.038", "4867.038"),
        ("4807.038", "9107.038"),
        ("4807.038", "807.038"),
        ("4807.038", "48O7.038"),
        ("4807.038", "48_7.038"),
        ("4807.038", "4807.0.8"),
        ("01131.000", "18131.000"),
        ("01131.000", "1131.000"),
        (",N,", ",X,"),
        (",N,", ",,"),
        (",E,", ",N,"),
        ("123519.00", "243519.00"),
        ("123519.00", "126019.00"),
        ("123519.00", "12351"),
    ],
)
@pytest.mark.parametrize("text", [RMC, GGA])
def test_a_field_that_no_receiver_sends_is_damage_in_spite_of_its_checksum(
    text: str, old: str, new: str
) -> None:
    driver = passive()
    assert driver.feed(line(text.replace(old, new, 1)) + line(NEXT), 0) == []
    assert (driver.frames, driver.frame_errors) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        RMC.replace("022.4", "XXXXX"),
        RMC.replace("022.4", "nan"),
        RMC.replace("022.4", "-22.4"),
        RMC.replace(",A,4807", ",B,4807"),
        GGA.replace(",1,08,", ",x,08,"),
        GGA.replace("0.9", "1e1"),
        "GPRMC,123519.00,A,4807.038,N",
        "GPGGA,123519.00,4807.038,N",
        "GPGST,123519.00,1.0",
    ],
)
def test_a_number_or_a_flag_that_is_none_is_damage(text: str) -> None:
    with pytest.raises(FrameError):
        decode(text.encode())


@pytest.mark.parametrize(
    ("north", "east", "place"),
    [
        ("0000.0000,N", "00000.0000,E", (0.0, 0.0)),
        ("9000.000,S", "18000.000,W", (-90.0, -180.0)),
        ("4307.5,N", "14121.,E", (43.125, 141.35)),
        ("3747.0873,S", "17518.8938,E", (-37.784788333333, 175.314896666667)),
    ],
)
def test_places_of_all_sides(north: str, east: str, place: tuple[float, float]) -> None:
    said = decode(f"GPGGA,000000,{north},{east},1,08,0.9,,,,,,".encode())
    assert said is not None
    assert said.place == pytest.approx(place, abs=1e-12)


def test_a_day_that_does_not_exist_is_no_day_and_the_rest_counts() -> None:
    said = decode(RMC.replace("150127", "000000").encode())
    assert said is not None
    assert (said.day, said.time_ms) == (None, 45_319_000)


def test_a_leap_second_is_the_second_after_the_day() -> None:
    found = passive().feed(line(RMC.replace("123519.00", "235960.50")) + line(NEXT), 0)
    assert fixes(found)[0].utc_ns == 1_800_057_600 * S + S // 2


def test_the_receivers_own_error_bound_goes_before_hdop() -> None:
    gst = "GPGST,123519.00,8.1,,,,3.0,4.0,5.0"
    (fix,) = fixes(passive().feed(line(RMC) + line(GGA) + line(gst) + line(NEXT), 0))
    assert fix.error_m == 5.0
    (fix,) = fixes(passive().feed(line(RMC) + line(GGA) + line(NEXT), 0))
    assert fix.error_m == pytest.approx(4.5)
    empty = "GPGST,123519.00,,,,,,,"
    (fix,) = fixes(passive().feed(line(RMC) + line(GGA) + line(empty) + line(NEXT), 0))
    assert fix.error_m == pytest.approx(4.5)


@settings(deadline=None)
@given(
    st.floats(-89.99, 89.99),
    st.floats(-179.99, 179.99),
    st.floats(0, 100),
    st.datetimes(datetime(2026, 12, 1), datetime(2036, 1, 1)),  # noqa: DTZ001
)
def test_pynmeagps_reads_the_same(north: float, east: float, knots: float, at: datetime) -> None:
    def angle(degrees: float, digits: int) -> str:
        whole, minutes = divmod(round(abs(degrees) * 60 * 1e5), 6_000_000)
        return f"{whole:0{digits}d}{minutes / 1e5:08.5f}"

    where = f"{angle(north, 2)},{'N' if north >= 0 else 'S'},"
    where += f"{angle(east, 3)},{'E' if east >= 0 else 'W'}"
    text = f"GNRMC,{at:%H%M%S}.25,A,{where},{knots:.3f},,{at:%d%m%y},,,A"
    said = decode(text.encode())
    theirs: Any = pynmeagps.NMEAReader.parse(line(text))
    assert said is not None
    assert said.place == pytest.approx((theirs.lat, theirs.lon), abs=1e-9)
    assert said.speed_m_s == pytest.approx(theirs.spd * 0.514444, abs=1e-4)
    assert said.day == theirs.date
    seconds = theirs.time.hour * 3600 + theirs.time.minute * 60 + theirs.time.second
    assert said.time_ms == seconds * 1000 + theirs.time.microsecond // 1000


# Framing


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n", b"\r\r\n", b"\n\r\n"])
def test_any_end_of_a_line_is_one(end: bytes) -> None:
    sentences = Sentences()
    assert list(sentences.feed(line(RMC, end) + line(GGA, end))) == [RMC.encode(), GGA.encode()]
    assert sentences.errors == 0


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (b"$GPRMC,1*00\r\n", 1),  # wrong sum
        (b"$GPRMC,1\r\n", 1),  # none
        (b"$GPRMC,1*4\r\n", 1),  # half
        (line(GGA, b"") + b"0,*4E\r\n", 1),  # something behind it
        (b"$GPRMC,123519.00,A,48", 1),  # cut short by the next
        (b"07.038,N*11\r\n", 1),  # its head is missing
        (b"\xb5\x62\x01\x22\r\n$\n\x00\x01", 3),  # UBX
        (b"$", 1),
        (b"$$$", 3),
        (b"\r\n\r\n", 0),
        (b"x" * 10_000, 1),
        (b"$" + b"x" * 10_000 + b"*00\r\n", 1),
        (line("GPTXT," + "x" * (SENTENCE_BYTES_MAX - 10)), 0),
        (line("GPTXT," + "x" * (SENTENCE_BYTES_MAX - 9)), 1),
    ],
)
def test_damage_is_counted_and_costs_no_sentence_behind_it(text: bytes, errors: int) -> None:
    sentences = Sentences()
    found = list(sentences.feed(text + line(RMC)))
    assert found[-1] == RMC.encode()
    assert sentences.errors == errors


PIECES = [
    line(RMC),
    line(GGA, b"\r"),
    line(NEXT, b""),
    line("GPGSV,1,1,00,1"),
    b"$GPRMC,123519.00,A*00\r\n",
    b"$GPGGA,1235",
    b"\xb5\x62\x01\x07$\x00\r",
    b"\xa0\xa2\x00\x29\xb0\xb3",
    b"x" * 300,
    b"*47\r\n",
]


@settings(deadline=None)
@given(st.data())
def test_any_slicing_gives_the_same_fixes_and_counts(data: st.DataObject) -> None:
    stream = b"".join(data.draw(st.lists(st.sampled_from(PIECES), max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    whole, sliced = passive(), passive()
    expected = list(whole.feed(stream, 7))
    found: list[Observation] = []
    for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += sliced.feed(stream[a:b], 7)
    assert found == expected
    assert (sliced.frames, sliced.frame_errors) == (whole.frames, whole.frame_errors)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=400)))
def test_random_bytes_never_raise_never_pile_up_and_say_nothing(chunks: list[bytes]) -> None:
    driver = passive()
    for chunk in chunks:
        assert fixes(driver.feed(chunk, 0)) == []
        assert len(driver._sentences._rest) <= SENTENCE_BYTES_MAX


@settings(deadline=None)
@given(st.integers(0, len(line(RMC) + line(GGA)) - 1), st.integers(0, 7))
def test_no_single_flipped_bit_makes_another_fix(at: int, bit: int) -> None:
    stream = bytearray(line(RMC) + line(GGA))
    stream[at] ^= 1 << bit
    driver = passive()
    for fix in fixes(driver.feed(bytes(stream) + line(NEXT) + line(NEXT.replace("20.", "21.")), 0)):
        place = (fix.latitude_deg, fix.longitude_deg)
        assert place == pytest.approx((48.1173, 11.516666667), abs=1e-8)
        assert fix.utc_ns in (None, *(second * S for second in range(1_800_016_519, 1_800_016_522)))


def test_garbage_without_end_is_counted_and_not_kept() -> None:
    sentences = Sentences()
    for _ in range(100):
        assert list(sentences.feed(b"$*" * 2048 + b"x" * 4096)) == []
        assert len(sentences._rest) <= SENTENCE_BYTES_MAX
    assert sentences.errors == 100 * 2048


# What is one instant


def test_the_sentences_of_one_instant_are_one_fix_in_any_order() -> None:
    for first, second in ((RMC, GGA), (GGA, RMC)):
        found = passive().feed(line(first) + line(second) + line(NEXT), 5)
        (fix,) = fixes(found)
        assert fix.at_boot_ns == 5
        assert (fix.utc_ns, fix.error_m) == (1_800_016_519 * S, pytest.approx(4.5))
        assert (of("satellites", found), of("hdop", found)) == ([8], [0.9])


def test_a_fix_is_told_with_its_last_sentence_once_the_burst_is_known() -> None:
    driver = passive()
    told = []
    for second in range(20, 26):
        for text in (RMC, GGA):
            stamped = line(text.replace("123519", f"1235{second}"))
            told.append(len(fixes(driver.feed(stamped, second))))
    assert told == [0, 0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1]


def test_a_lost_sentence_costs_what_it_says_and_nothing_else() -> None:
    driver = passive()
    found: list[Observation] = []
    for second in range(20, 30):
        for text in (RMC, GGA):
            if (second, text) not in ((24, GGA), (26, RMC)):
                found += driver.feed(line(text.replace("123519", f"1235{second}")), second * S)
    there = fixes(found)
    assert [fix.at_boot_ns // S for fix in there] == list(range(20, 30))
    assert [fix.at_boot_ns // S for fix in there if fix.error_m is None] == [24]
    assert [fix.at_boot_ns // S for fix in there if fix.utc_ns is None] == [26]


def test_without_rmc_the_speed_is_that_of_vtg() -> None:
    driver = passive()
    found: list[Observation] = []
    for second in range(20, 25):
        found += driver.feed(line(GGA.replace("123519", f"1235{second}")), second * S)
        knots = f"{second}.0"
        found += driver.feed(line(f"GPVTG,,T,,M,{knots},N,41.5,K,A"), second * S)
    speeds = [fix.speed_m_s for fix in fixes(found)]
    assert speeds == [pytest.approx(n * 1852 / 3600) for n in range(20, 25)]
    assert {fix.utc_ns for fix in fixes(found)} == {None}


def test_two_places_of_one_instant_are_damage() -> None:
    driver = passive()
    found = driver.feed(line(RMC) + line(GGA.replace("4807", "4808")) + line(NEXT), 0)
    assert fixes(found) == []
    assert driver.frame_errors == 1


# What is refused


@pytest.mark.parametrize(
    ("rmc", "gga"),
    [
        (RMC.replace(",A,4807", ",V,4807"), GGA),
        (RMC, GGA.replace(",1,08,", ",0,08,")),
        (RMC, GGA.replace(",1,08,", ",6,08,")),
        (RMC, GGA.replace(",1,08,", ",8,08,")),
        (RMC[:-1] + "E", GGA),
        (RMC[:-1] + "N", GGA),
        (RMC[:-1] + "S", GGA),
        (RMC, GGA.replace("0.9", "5.1")),
        (RMC, GGA.replace("0.9", "99.99")),
        (
            RMC.replace("4807.038,N,01131.000,E", ",,,"),
            GGA.replace("4807.038,N,01131.000,E", ",,,"),
        ),
    ],
    ids=["V", "0", "6", "8", "E", "N", "S", "hdop", "no hdop", "empty"],
)
def test_a_fix_that_the_receiver_does_not_stand_by_is_none(rmc: str, gga: str) -> None:
    driver = passive()
    found = driver.feed(line(rmc) + line(gga) + line(NEXT), 0)
    assert fixes(found) == []
    assert reasons(found) == ["weak_signal"]
    assert driver.frame_errors == 0


def test_without_a_fix_satellites_and_hdop_have_no_value_whatever_is_printed() -> None:
    found = passive().feed(line(GGA.replace(",1,08,0.9,", ",0,03,1.2,")) + line(NEXT), 3)
    assert found[:2] == [
        Reading("satellites", None, 3, ("weak_signal",)),
        Reading("hdop", None, 3, ("weak_signal",)),
    ]


@pytest.mark.parametrize(
    ("hdop", "expected"),
    [
        ("0.9", [0.9]),
        ("4.99", [4.99]),
        ("7.5", [7.5]),
        ("0.0", [None]),
        ("50.0", [None]),
        ("99.99", [None]),
        ("", []),
    ],
)
def test_hdop_is_told_where_it_is_one(hdop: str, expected: list[float | None]) -> None:
    found = passive().feed(line(GGA.replace(",0.9,", f",{hdop},")) + line(NEXT), 0)
    assert of("hdop", found) == expected


def test_how_poor_a_geometry_may_be_is_an_option() -> None:
    poor = line(GGA.replace("0.9", "5.1")) + line(NEXT)
    assert len(fixes(passive(max_hdop=6.0).feed(poor, 0))) == 1


@pytest.mark.parametrize("day", ["010107", "311026", "220899", "150127"])
def test_a_date_before_the_build_says_nothing_of_time_and_the_place_stays(day: str) -> None:
    fix, *_ = fixes(passive().feed(line(RMC.replace("150127", day)) + line(NEXT), 0))
    assert (fix.utc_ns is not None) == (day == "150127")
    assert fix.utc_ns is None or fix.utc_ns >= BUILT_NS


def moved(north_m: float, second: int) -> bytes:
    minutes = 7.038 + north_m / 1853.25
    at = f"12{35 + second // 60:02d}{second % 60:02d}.00"
    text = RMC.replace("4807.038", f"48{minutes:07.4f}").replace("123519.00", at)
    return line(text.replace("022.4", "001.0"))


def places_m(journey: Sequence[tuple[int, float]]) -> list[int]:
    """Return the seconds of a journey of (second, metres north) that are believed."""
    driver = passive(stuck_s=0)
    found: list[Observation] = []
    for second, north_m in [*journey, (journey[-1][0] + 1, journey[-1][1])]:
        found += driver.feed(moved(north_m, second), second * S)
    return [fix.at_boot_ns // S for fix in fixes(found)]


def test_a_jump_that_no_vehicle_makes_is_refused_and_the_journey_goes_on() -> None:
    steady = [(second, 10.0 * second) for second in range(10)]
    jumps = [(s, m + (5000.0 if s in (4, 5) else 0.0)) for s, m in steady]
    assert places_m(steady)[:10] == list(range(10))
    assert places_m(jumps)[:8] == [0, 1, 2, 3, 6, 7, 8, 9]


def test_just_under_the_greatest_speed_is_a_journey() -> None:
    fast = [(second, (SPEED_MAX_M_S - 1) * second) for second in range(10)]
    assert places_m(fast)[:10] == list(range(10))


def test_after_a_wrong_first_place_the_others_are_believed() -> None:
    journey = [(0, 5000.0), *((second, 0.0) for second in range(1, 10))]
    believed = places_m(journey)
    assert believed[:2] == [0, STRAYS_BELIEVED]


def test_far_away_after_a_long_silence_is_a_journey() -> None:
    assert places_m([(0, 0.0), (1, 0.0), (600, 20_000.0)])[:3] == [0, 1, 600]


def test_epochs_that_were_taken_at_once_are_apart_by_the_receivers_own_clock() -> None:
    driver = passive()
    stream = b"".join(moved(20.0 * second, second) for second in range(10))
    assert len(fixes(driver.feed(stream, 0))) >= 9


def test_a_speed_that_no_vehicle_has_is_a_spike() -> None:
    found = passive().feed(line(RMC.replace("022.4", "122.4")) + line(NEXT), 0)
    assert [fix.utc_ns for fix in fixes(found)] == [1_800_016_520 * S]
    assert reasons(found) == ["spike"]


def test_a_receiver_that_repeats_one_instant_hangs() -> None:
    driver = passive(stuck_s=10.0)
    found: list[Observation] = []
    for second in range(20):
        found += driver.feed(line(RMC) + line(GGA), second * S)
    assert fixes(found) == []
    assert set(reasons(found)) == {"stuck"}
    assert next(x.at_boot_ns for x in found if isinstance(x, Trouble)) == 10 * S
    silent = passive(stuck_s=0.0)
    assert all(silent.feed(line(RMC), second * S) == [] for second in range(20))


def test_a_cold_receiver_without_time_tells_each_second_that_it_is_blind(
    recordings: Path,
) -> None:
    startup = (recordings / "nmea" / "pynmeagps_startup.log").read_bytes()
    driver = passive()
    found = [each for second in range(20) for each in driver.feed(startup, second * S)]
    assert len(reasons(found)) >= 18
    assert set(reasons(found)) == {"weak_signal"}
    assert set(of("satellites", found)) == {None}
    assert fixes(found) == []
    assert driver.frame_errors == 0


# Against gpsd


def logged(recordings: Path, name: str) -> list[bytes]:
    """Return the lines of a log as the receiver sent them, without gpsd's own remarks."""
    lines = (recordings / "nmea" / f"{name}.log").read_bytes().splitlines(keepends=True)
    return [each for each in lines if not each.startswith(b"#")]


def said_by_gpsd(recordings: Path, name: str) -> list[str]:
    path = recordings / "nmea" / f"{name}.log.chk"
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def tod_ms(text: str) -> int | None:
    """Return the time of day that a sentence bears, read by other means than the driver's."""
    at = {"RMC": 1, "GGA": 1, "GLL": 5, "ZDA": 1, "GST": 1}.get(text[3:6])
    fields = re.split(r"[,*]", text)
    if at is None or len(fields) <= at or not re.fullmatch(r"\d{6}(\.\d+)?", fields[at]):
        return None
    clock = fields[at]
    whole_s = int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:6])
    return whole_s * 1000 + round(float("0" + clock[6:]) * 1000)


def tpvs(recordings: Path, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield gpsd's fixes and the time of day of each: its own, or of the sentence before it."""
    latest: int | None = None
    for text in said_by_gpsd(recordings, name):
        if text.startswith("$"):
            latest = tod_ms(text) if tod_ms(text) is not None else latest
            continue
        report = json.loads(text)
        if report["class"] == "TPV" and report["mode"] >= 2:
            if "time" in report:
                at = datetime.fromisoformat(report["time"])
                midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
                yield round((at - midnight).total_seconds() * 1000), report
            elif latest is not None:
                yield latest, report


def driven(recordings: Path, name: str) -> dict[int, Fix]:
    """Return the driver's fixes by the time of day of their first sentence."""
    driver = passive()
    lines = logged(recordings, name)
    found = [each for number, text in enumerate(lines) for each in driver.feed(text, number * S)]
    there = {}
    for fix in fixes(found):
        at = tod_ms(lines[fix.at_boot_ns // S].decode("latin-1"))
        assert at is not None
        assert at not in there, "one fix for one instant"
        there[at] = fix
    return there


# By name, what gpsd tells of and the driver does not: instants of which only GLL speaks.
ONLY_GLL = {"neo-m8n": {62_365_000}}  # 17:19:25, where the log begins
# And the other way round: gpsd waits for the GLL with which this receiver's bursts end.
WITHOUT_GLL = {"neo-m8n": {62_388_000}}  # 17:19:48, where the log ends


@pytest.mark.parametrize(
    ("name", "count"),
    [("bu353s4", 25), ("mt3339", 30), ("neo-m8n", 23), ("gp-320fw-2019-04-07-coldboot", 2)],
)
def test_every_fix_is_gpsds_and_every_one_of_gpsds_is_there(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    monkeypatch.setattr(drivers.nmea, "BUILT_NS", 0)  # these logs are older than the program
    ours = driven(recordings, name)
    theirs = list(tpvs(recordings, name))
    assert len(ours) == count
    missing = {at for at, _ in theirs} - set(ours)
    assert missing == ONLY_GLL.get(name, set())
    assert set(ours) - {at for at, _ in theirs} == WITHOUT_GLL.get(name, set())
    for at, report in theirs:
        if at in missing:
            continue
        fix = ours[at]
        assert fix.latitude_deg == pytest.approx(report["lat"], abs=1e-9)
        assert fix.longitude_deg == pytest.approx(report["lon"], abs=1e-9)
        if "speed" in report:
            assert fix.speed_m_s == pytest.approx(report["speed"], abs=0.0006)
        if "time" in report and fix.utc_ns is not None:
            apart_s = datetime.fromisoformat(report["time"]).timestamp() - fix.utc_ns / S
            # gpsd takes the receivers for rolled over, and puts that right by guessing.
            assert apart_s in (0, WEEKS_1024_S)


@pytest.mark.parametrize("name", ["bu353s4", "mt3339", "neo-m8n", "gp-320fw-2019-04-07-coldboot"])
def test_the_same_sentences_are_accepted_as_by_gpsd_but_for_those_without_a_sum(
    recordings: Path, name: str
) -> None:
    ours = [body.decode() for body in Sentences().feed(b"".join(logged(recordings, name)))]
    theirs = []
    for text in said_by_gpsd(recordings, name):
        if re.fullmatch(r"\$.*\*[0-9A-F]{2}", text):
            theirs.append(text[1:-3])
    # Of two sentences without a line end between them gpsd shows the second only.
    extra = [text for text in ours if text not in theirs or ours.count(text) > theirs.count(text)]
    assert set(extra) <= {"GPGSA,A,1,,,,,,,,,,,,,,,"}
    assert [text for text in theirs if text not in ours] == []


def test_all_corrupted_sentences_of_the_cold_start_are_refused_and_counted(
    recordings: Path,
) -> None:
    raw = b"".join(logged(recordings, "gp-320fw-2019-04-07-coldboot"))
    pieces = [each for each in re.split(rb"[\r\n]+|(?=\$)", raw) if each]
    summed = [each for each in pieces if re.search(rb"\*[0-9A-F]{2}$", each)]
    right = [each for each in summed if re.fullmatch(rb"\$[^*]+\*..", each) and is_right(each)]
    corrupted = [each for each in summed if each not in right]
    trailing = [each for each in corrupted if re.match(rb"\$GPGSA,A,1,*\*1E.+", each)]
    assert len(corrupted) - len(trailing) == 35
    driver = passive()
    taken = set(Sentences().feed(raw))
    assert all(each[1:].rpartition(b"*")[0] not in taken for each in corrupted)
    for each in corrupted:
        before = driver.frame_errors
        assert driver.feed(each + b"\r\n", 0) == []
        assert driver.frame_errors == before + 1
    whole = passive()
    found = whole.feed(raw, 0)
    assert (whole.frames, whole.frame_errors) == (len(right), len(pieces) - len(right))
    assert {fix.utc_ns for fix in fixes(found)} == {None}


def is_right(sentence: bytes) -> bool:
    body, _, total = sentence[1:].partition(b"*")
    return reduce(lambda a, b: a ^ b, body, 0) == int(total[:2], 16)


@pytest.mark.parametrize("name", ["bu303b-nofix", "ublox-neo-m8n"])
def test_a_binary_receiver_gives_nothing_but_counted_errors(recordings: Path, name: str) -> None:
    driver = passive()
    found = [each for text in logged(recordings, name) for each in driver.feed(text, 0)]
    assert found == []
    assert driver.frames == 0
    assert driver.frame_errors > 10


def test_a_letter_in_a_number_is_refused(recordings: Path) -> None:
    lines = logged(recordings, "pynmeagps_badck")
    driver = passive()
    for text in lines:
        before = driver.frame_errors
        driver.feed(text, 0)
        assert (driver.frame_errors - before == 1) == (b"XXXXX" in text)
    # The other two thirds of it with a right sum: the field is what gives it away.
    mended = line(lines[0].decode()[1:].partition("*")[0])
    driver = passive()
    assert driver.feed(mended + line(NEXT), 0) == []
    assert driver.frame_errors == 1


# With the emulated receiver


def test_a_drive_is_where_the_vehicle_is() -> None:
    now = Now()
    drive = Drive(receiver(now, ubx_every=3, tells_error=True, speed_m_s=12.0), now)
    there = fixes(drive.lives(120.0))
    assert len(there) >= 118
    for fix in there:
        assert fix.utc_ns is not None
        at_s = 1000.0 + fix.utc_ns / S - NOON_S
        truth = drive.device.truth(at_s)
        told = (fix.latitude_deg, fix.longitude_deg)
        assert distance_m(told, (truth.latitude_deg, truth.longitude_deg)) < 0.1
        assert fix.speed_m_s == pytest.approx(12.0, abs=0.0006)
        assert fix.error_m == pytest.approx(3.0)
        late_s = fix.at_boot_ns / S - at_s
        assert 0.0 <= late_s <= 0.5


def test_a_cold_start_and_a_tunnel_are_told_as_weak_signal_and_end() -> None:
    now = Now()
    drive = Drive(receiver(now, cold_start_s=20.0, tunnels_s=[(60.0, 90.0)]), now)
    cold = drive.lives(19.0)
    assert fixes(cold) == []
    assert set(reasons(cold)) == {"weak_signal"}
    assert len(fixes(drive.lives(41.0))) >= 38
    dark = drive.lives(30.0)
    assert len(fixes(dark)) <= 2
    assert len(reasons(dark)) >= 27
    assert None in of("hdop", dark)
    assert len(fixes(drive.lives(30.0))) >= 28


def test_a_receiver_that_reckons_through_a_tunnel_is_not_believed() -> None:
    now = Now()
    found = Drive(receiver(now, quality=6), now).lives(10.0)
    assert fixes(found) == []
    assert set(of("satellites", found)) == {None}


def test_a_rolled_over_receiver_tells_where_and_never_when() -> None:
    now = Now()
    there = fixes(Drive(receiver(now, weeks_rolled_over=1), now).lives(30.0))
    assert len(there) >= 28
    assert {fix.utc_ns for fix in there} == {None}


@pytest.mark.parametrize("talker", TALKERS)
def test_a_drive_is_heard_from_every_talker(talker: str) -> None:
    now = Now()
    assert len(fixes(Drive(receiver(now, talker=talker, line_end="\r"), now).lives(10.0))) >= 8


@pytest.mark.parametrize("baud", [4800, 9600, 19200, 38400, 57600, 115200])
def test_the_speed_of_the_line_is_found_out(baud: int) -> None:
    now = Now()
    drive = Drive(receiver(now, baud=baud), now)
    drive.lives(20.0)
    errors_before = drive.driver.frame_errors
    assert len(fixes(drive.lives(10.0))) >= 9
    assert drive.driver.frame_errors == errors_before
    assert drive.port.line.host_baud == baud


def test_a_known_speed_is_taken_again_when_the_port_was_opened_anew() -> None:
    now = Now()
    drive = Drive(receiver(now, baud=115200), now)
    drive.lives(20.0)
    drive.port.unplug()
    with pytest.raises(BusError):
        drive.driver.poll()
    drive.driver.close()
    drive.port.plug()
    drive.port.open()
    drive.driver.open()
    assert len(fixes(drive.lives(5.0))) >= 3


def test_a_receiver_that_fell_back_to_its_own_speed_is_found_again() -> None:
    now = Now()
    drive = Drive(receiver(now, baud=38400), now)
    drive.lives(20.0)
    drive.device.power_cycle()
    drive.device.baud = 9600
    drive.lives(20.0)
    assert len(fixes(drive.lives(10.0))) >= 9


class Chatter:
    """Something that talks in binary all the time."""

    def __init__(self, said: bytes) -> None:
        self._said = said

    def hear(self, data: bytes, now_s: float) -> None:
        """Hear nothing."""

    def speak(self, now_s: float) -> bytes:
        return self._said


def chattering(said: bytes, **options: object) -> tuple[NmeaGnss, SimulatedSerial, Now]:
    now = Now()
    port = SimulatedSerial([Chatter(said)], now, wait_s=now.advance)
    port.open()
    driver = NmeaGnss(port, NmeaOptions(**options), now.ns)
    driver.open()
    return driver, port, now


@pytest.mark.parametrize(
    ("options", "told"),
    [({}, "at any speed from 4800 to 115200 baud"), ({"baud": 19200}, "at 19200 baud")],
)
def test_bytes_that_are_no_sentences_at_any_speed_are_a_bus_error_that_says_what_to_do(
    options: dict[str, object], told: str
) -> None:
    driver, port, now = chattering(b"\xa0\xa2\x00\x29\xb0\xb3\n", **options)
    with pytest.raises(BusError, match=told) as caught:
        for _ in range(200):
            assert driver.poll() == []
            now.advance(driver.interval_s)
    assert "NMEA" in str(caught.value)
    assert driver.frames == 0
    assert driver.frame_errors > 0
    if options:
        assert port.line.host_baud is None


def test_a_short_silence_is_nothing_and_a_long_one_is_a_bus_error() -> None:
    now = Now()
    drive = Drive(receiver(now), now)
    drive.lives(5.0)
    drive.port.line.silence()
    assert drive.lives(9.0) == []
    with pytest.raises(BusError, match=r"^no byte for 1\d s: "):
        drive.lives(3.0)
    drive.driver.open()
    assert drive.lives(5.0) == []
    drive.port.line.heal()
    assert len(fixes(drive.lives(5.0))) >= 3


def test_a_receiver_that_tells_of_everything_but_its_place_is_a_frame_error() -> None:
    driver, _, now = chattering(line("GPGSV,1,1,00,1") + line("GPGSA,A,1"))
    with pytest.raises(FrameError, match="neither RMC nor GGA"):
        for _ in range(100):
            assert driver.poll() == []
            now.advance(driver.interval_s)
    assert now.s > 1010.0
    driver.open()
    assert driver.poll() == []


def test_a_receiver_that_hangs_is_stuck() -> None:
    now = Now()
    drive = Drive(receiver(now), now)
    drive.lives(10.0)
    drive.device.freeze()
    found = drive.lives(40.0)
    assert len(fixes(found)) <= 2
    assert reasons(found).count("stuck") > 25


def test_a_driver_that_was_never_opened_counts_silence_from_its_first_poll() -> None:
    now = Now()
    port = SimulatedSerial([], now, wait_s=now.advance)
    port.open()
    driver = NmeaGnss(port, NmeaOptions(), now.ns)
    assert driver.poll() == []
    now.advance(11.0)
    with pytest.raises(BusError):
        driver.poll()


def test_a_noisy_line_costs_fixes_and_never_makes_one() -> None:
    now = Now()
    drive = Drive(receiver(now, speed_m_s=12.0), now)
    drive.port.line.garble(0.004)
    there = fixes(drive.lives(300.0))
    assert 100 < len(there) < 300
    assert drive.driver.frame_errors > 100
    for fix in there:
        truth = drive.device.truth(fix.at_boot_ns / S)
        told = (fix.latitude_deg, fix.longitude_deg)
        assert distance_m(told, (truth.latitude_deg, truth.longitude_deg)) < 20.0


def test_the_spec_covers_every_reading() -> None:
    now = Now()
    drive = Drive(receiver(now, hdop=4.2, satellites=4), now)
    found = drive.lives(5.0)
    assert set(drive.driver.quantities) == {"satellites", "hdop"}
    assert set(of("hdop", found)) == {4.2}
    assert set(of("satellites", found)) == {4}
    assert HDOP.low is not None


@pytest.mark.parametrize(
    "options", [{"baud": 1200}, {"max_hdop": 0.0}, {"rate_hz": 0.0}, {"stuck_s": -1.0}, {"bod": 1}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        NmeaOptions(**options)


def test_a_fixed_speed_sets_the_line() -> None:
    line_settings = NmeaOptions(baud=38400).line()
    assert line_settings is not None
    assert line_settings.baud == 38400
    assert NmeaOptions().line() is None


def test_the_emulated_receiver_speaks_alike_for_equal_seeds_whatever_the_steps() -> None:
    def spoken(seed: int, step_s: float) -> bytes:
        device = GnssReceiver(lambda s: NOON_S + s, noise_m=3.0, ubx_every=5, seed=seed)
        return b"".join(device.speak(i * step_s) for i in range(round(60.0 / step_s) + 1))

    assert spoken(1, 0.5) == spoken(1, 20.0)
    assert spoken(1, 0.5) != spoken(2, 0.5)


def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        time.sleep(0.005)


def test_over_a_real_terminal_the_drive_arrives_and_survives_an_unplug() -> None:
    assert NmeaGnss.spec.line is not None
    fast = GnssReceiver(lambda now_s: NOON_S + 20 * now_s, ubx_every=2, speed_m_s=0.5)
    with Pty([fast], time.monotonic) as pty:
        port = LinuxSerial(pty.path, NmeaGnss.spec.line)
        port.open()
        assert pty.baud == 9600
        driver = NmeaGnss(port, NmeaOptions(), time.monotonic_ns)
        driver.open()
        found: list[Observation] = []

        def heard(count: int) -> bool:
            found.extend(driver.poll())
            return len(fixes(found)) >= count

        until(lambda: heard(10))
        pty.unplug()
        with pytest.raises(BusError):
            until(lambda: heard(10**6))
        driver.close()
        port.close()
        pty.plug()
        port.open()
        driver.open()
        found.clear()
        until(lambda: heard(5))
        assert all(fix.utc_ns is not None for fix in fixes(found))
        driver.close()
        port.close()


def test_utc_of_the_build_is_a_day_that_has_been() -> None:
    assert datetime.fromtimestamp(BUILT_NS / S, tz=UTC) < datetime.now(tz=UTC)
