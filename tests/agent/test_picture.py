"""The picture of what a people sensor sees: how it is drawn, where it is shown, and where never."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli import main
from agent.cli.picture import (
    HOME,
    OTHER_PAGE,
    OWN_PAGE,
    REFRESH_S,
    Look,
    Screen,
    drawn,
    letter,
)
from drivers.base import Pictures, Scene

from .sensors import Clock, opener, planned

ROOT = Path(__file__).resolve().parents[2]
PLAIN, GREY = Look(), Look(unicode=True, greys=True)
COUNTS = {"towards": 2, "away": 1}
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")

CONFIG = """
[uplink]
brokers = ["mqtt://127.0.0.1"]
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "bench"
options = { warmup_s = 0.0 }
[[sensors]]
id = "slow-1"
driver = "omron-d6t"
bus = "bench"
options = { model = "44L-06", warmup_s = 0.0 }
[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "bench"
options = { pin_a = 17, pin_b = 27 }
[[sensors]]
id = "radar-1"
driver = "hlk-ld2450"
bus = "bench"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(CONFIG)
    return path


def thermal(rows: int = 8, columns: int = 8, **given: object) -> Scene:
    warmth_k = tuple(tuple(0.8 * column for column in range(columns)) for _ in range(rows))
    return Scene(
        forward="towards",
        unit="pixels",
        along=(0.0, columns - 1.0),
        across=(0.0, rows - 1.0),
        line=(columns - 1) / 2,
        warmth_k=warmth_k,
        **given,  # type: ignore[arg-type]
    )


RADAR = Scene(
    forward="away",
    unit="m",
    along=(0.0, 6.0),
    across=(-3.0, 3.0),
    line=1.5,
    people=((0, 3.0, 0.0), (27, 6.0, 3.0), (2, 9.0, 0.0)),
)
BEAMS = Scene(forward="towards", beams=(("A", False), ("B", True)))


# Drawing.


def test_warmer_is_brighter_and_the_line_and_people_are_where_they_are() -> None:
    lines = drawn(thermal(people=((1, 1.0, 2.0),)), COUNTS, PLAIN)
    row = lines[1 + 2 * 7]
    assert row.startswith("|")
    assert row.endswith("|")
    cells = row[1:-1]
    assert [cells[4 * column + 1] for column in range(8)] == list(" .:=+*#%")
    assert cells[16] == "|"
    (at,) = [(y, line.index("B")) for y, line in enumerate(lines) if line[1:-1].count("B")]
    assert at == (1 + 5, 1 + 6)  # the middle of the third row of pixels, and of the second column


def test_directions_have_their_names_and_counts() -> None:
    assert "<-- away   towards -->" in drawn(thermal(), COUNTS, PLAIN)
    assert "<-- towards   away -->" in drawn(RADAR, COUNTS, PLAIN)
    assert "counted: towards 2   away 1   followed 3" in drawn(RADAR, COUNTS, PLAIN)
    assert any("◀── away   towards ──▶" in line for line in drawn(thermal(), COUNTS, GREY))


def test_a_radar_s_field_is_a_plan_with_its_line() -> None:
    lines = drawn(RADAR, COUNTS, PLAIN)
    field = lines[1:15]
    assert all(line[1 + 15] == "|" for line in field)
    assert field[6][1] == ">" or field[7][1] == ">"
    assert field[13][60] == "B"  # 27 is B again, at the far right corner
    assert sum(line.count("A") for line in field) == 1
    assert not any("C" in line for line in field)  # outside


def test_beams_are_said_in_words_too() -> None:
    lines = drawn(BEAMS, COUNTS, PLAIN)
    assert "beam A" in lines[0]
    assert lines[0].endswith("free")
    assert "####" in lines[1]
    assert lines[1].endswith("blocked")
    assert "A before B is towards" in lines


def test_greys_are_shades_and_say_the_same_as_brightness_alone() -> None:
    row = drawn(thermal(), COUNTS, GREY)[1]
    shades = [int(each) for each in re.findall(r"48;5;(\d+)", row)]
    assert shades == sorted(shades)
    assert min(shades) >= 232
    assert max(shades) <= 255
    inks = [int(each) for each in re.findall(r"38;5;(\d+)", row)]
    assert all(abs(ink - shade) >= 11 for ink, shade in zip(inks, shades, strict=True))
    assert row.endswith("\x1b[0m|")


scenes = st.one_of(
    st.builds(
        lambda shape, k, people: Scene(
            forward="towards",
            unit="pixels",
            along=(0.0, shape[1] - 1.0),
            across=(0.0, shape[0] - 1.0),
            line=(shape[1] - 1) / 2,
            warmth_k=tuple((k,) * shape[1] for _ in range(shape[0])),
            people=tuple((n, a * (shape[1] - 1), c * (shape[0] - 1)) for n, a, c in people),
        ),
        st.sampled_from([(8, 8), (4, 4), (1, 8)]),
        st.floats(-50, 100),
        st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1)), max_size=16),
    ),
    st.builds(
        lambda people: Scene(
            forward="towards",
            unit="m",
            along=(0.0, 6.0),
            across=(-3.0, 3.0),
            line=1.5,
            people=tuple(people),
        ),
        st.lists(st.tuples(st.integers(0, 99), st.floats(-1, 9), st.floats(-7, 7)), max_size=16),
    ),
    st.builds(
        lambda a, b: Scene(forward="towards", beams=(("A", a), ("B", b))),
        st.booleans(),
        st.booleans(),
    ),
)


@given(scenes, st.booleans())
def test_every_picture_fits_a_terminal_of_80_by_24_and_plain_ones_are_ascii(
    scene: Scene, has_greys: bool
) -> None:
    lines = drawn(scene, COUNTS, Look(greys=has_greys))
    assert len(lines) <= 22  # a head, and what was counted last
    assert all(len(ESCAPE.sub("", line)) <= 79 for line in lines)
    "".join(lines).encode("ascii")


def test_letters_come_again() -> None:
    assert [letter(n) for n in (0, 25, 26)] == ["A", "Z", "A"]


# The terminal.


class Terminal(io.StringIO):
    encoding = "UTF-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "greys"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "vt100"}, False),
        ({}, False),
    ],
)
def test_greys_are_used_where_the_terminal_has_them(
    environment: dict[str, str], greys: bool
) -> None:
    assert Look.of(Terminal(), environment) == Look(unicode=True, greys=greys)


def test_a_file_gets_no_greys_and_ascii_where_it_wants_that() -> None:
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert Look.of(plain, {"TERM": "xterm-256color"}) == Look()
    assert Look.of(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), {}).unicode


def test_pictures_follow_each_other_in_place_and_leave_nothing() -> None:
    terminal = Terminal()
    screen = Screen(terminal)
    screen.close()
    assert terminal.getvalue() == ""
    screen.show(["one"], 0.0)
    screen.show(["too soon"], REFRESH_S / 2)
    screen.show(["two"], REFRESH_S)
    screen.close()
    said = terminal.getvalue()
    assert said.startswith(OTHER_PAGE + HOME)
    assert said.count(OTHER_PAGE) == 1
    assert said.count(HOME) == 2
    assert "too soon" not in said
    assert said.endswith(OWN_PAGE)


# The verb, with simulated devices.


def in_terminal(arguments: list[str], *, until: str, **environment: str) -> tuple[str, int]:
    """Run the command on a terminal of 80 x 24; press Ctrl-C once `until` was shown."""
    process_id, terminal = pty.fork()
    if process_id == 0:
        os.environ.update({"PYTHONPATH": str(ROOT), "COLUMNS": "80", "LINES": "24"} | environment)
        os.execv(sys.executable, [sys.executable, "-m", "agent", *arguments])
    said, asked = b"", False
    until_s = time.monotonic() + 90
    try:
        while time.monotonic() < until_s:
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                chunk = os.read(terminal, 65536)
            except OSError:  # it ended
                break
            if not chunk:
                break
            said += chunk
            if not asked and until.encode() in said:
                asked = True
                os.write(terminal, b"\x03")
    finally:
        if time.monotonic() >= until_s:
            os.kill(process_id, signal.SIGKILL)
        _, status = os.waitpid(process_id, 0)
        os.close(terminal)
    return said.decode(), os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize(
    ("sensor", "shows"),
    [
        ("hall-1", "the place ["),
        ("slow-1", "the place ["),
        ("radar-1", "dots are 1 m apart"),
        ("door-1", "A before B is towards"),
    ],
)
def test_on_a_terminal_the_picture_moves_in_place(config: Path, sensor: str, shows: str) -> None:
    said, code = in_terminal(
        ["read", sensor, "--consent", "--config", str(config)],
        until="followed" if sensor != "door-1" else "counted: ",
        TERM="xterm-256color",
    )
    assert code == 0
    assert shows in said
    assert said.count(OTHER_PAGE) == 1
    assert OWN_PAGE in said
    assert "Traceback" not in said
    assert ("\x1b[48;5;" in said) == (sensor in ("hall-1", "slow-1"))


def test_without_consent_a_terminal_shows_state_and_health_only(config: Path) -> None:
    said, code = in_terminal(["read", "hall-1", "--config", str(config)], until="never")
    assert code == 0
    assert OTHER_PAGE not in said
    assert "the place" not in said
    assert "shown with --consent only" in said


def test_a_terminal_without_colours_in_ascii_gets_characters(config: Path) -> None:
    said, _ = in_terminal(
        ["read", "hall-1", "--consent", "--config", str(config)],
        until="followed",
        TERM="vt100",
        PYTHONIOENCODING="ascii",
    )
    assert "48;5;" not in said
    said.encode("ascii")
    assert "<-- away   towards -->" in said


def test_into_a_pipe_each_crossing_has_one_picture(config: Path) -> None:
    arguments = ["read", "door-1", "-n", "2", "--consent", "--timeout", "60", "--config"]
    process = subprocess.run(
        [sys.executable, "-m", "agent", *arguments, str(config)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert process.stdout.count("A before B is towards") == 2
    assert len(re.findall(r" s  crossing (towards|away)", process.stdout)) == 2
    assert "\x1b" not in process.stdout


def test_json_has_no_picture(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["read", "door-1", "-n", "1", "--consent", "--json", "--timeout", "60"]
    assert main([*arguments, "--config", str(config)]) == 0
    assert "A before B" not in capsys.readouterr().out


# The drivers.


@pytest.mark.parametrize(
    "driver",
    ["grideye-amg88xx", "omron-d6t", "hlk-ld2450", "beam-pair", "benewake-tf-pair"],
)
def test_every_driver_that_tells_directions_can_show_what_it_sees(driver: str) -> None:
    from agent.direct import Direct

    clock, sensor = Clock(), planned(driver)
    with Direct(
        sensor, lambda _: None, now_ns=clock.ns, wait_s=clock.advance, opener=opener(clock)
    ) as direct:
        assert isinstance(direct.driver, Pictures)
        most = 0
        for _ in direct.rounds(60.0):
            scene = direct.driver.picture()
            if scene is None:  # it warms up
                continue
            drawn(scene, COUNTS, PLAIN)
            most = max(most, len(scene.people), sum(blocked for _, blocked in scene.beams))
        assert most >= 1
        direct.driver.close()
        closed = direct.driver.picture()
        assert closed is None or not closed.people
        assert closed is None or not any(blocked for _, blocked in closed.beams)


def test_the_daemon_knows_nothing_of_pictures() -> None:
    looked: Callable[[str], bool] = re.compile(r"\bpicture\b|\bPictures\b|\bScene\b").search  # type: ignore[assignment]
    telling = [
        path.name
        for path in (ROOT / "agent").rglob("*.py")
        if path.parent.name != "cli" and looked(path.read_text())
    ]
    assert telling == []
