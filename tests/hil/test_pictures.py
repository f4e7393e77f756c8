"""The field guide's pictures are made from real output, and say what the guide says."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hil.pictures import __main__ as program
from hil.pictures.drawing import Cell, Look, svg
from hil.pictures.scene import GATEWAY, SENSORS, Scene
from hil.pictures.stage import BROKER, RUN
from tests.e2e.conftest import need_mosquitto
from tests.hil.drawn import SVG, lines_of, text_of

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "pictures"
MOST_BYTES = 40_000

# What each picture must say, whatever the day's figures are.
SAYS = {
    "watch.svg": (GATEWAY, "Chi-Ka-Ho N3", BROKER, *SENSORS, "records as they leave", "connected"),
    "watch.ja.svg": (GATEWAY, "北3条", BROKER, *SENSORS, "送信された記録", "接続中", "正常"),
    "status.svg": ("$ yukimi status", GATEWAY, RUN, "SILENT", "snow-1 does not answer"),
    "status.ja.svg": ("$ yukimi status", GATEWAY, RUN, "応答なし", "snow-1が応答しません"),
    "doctor.svg": ("$ sudo yukimi doctor", "FAIL YK-SEN-01", "[snow-1]", "1 failed", "power"),
    "doctor.ja.svg": ("$ sudo yukimi doctor", "FAIL YK-SEN-01", "[snow-1]", "異常 1", "電源"),
}


def check(made: dict[str, str]) -> None:
    """Hold pictures against what they must say, and must not."""
    assert set(made) == set(SAYS)
    for name, picture in made.items():
        said = text_of(picture)
        assert [words for words in SAYS[name] if words not in said] == [], said
        for private in ("/tmp", "/home", "/work", "/dev/pts", "127.0.0.1", socket.gethostname()):
            assert private not in picture, private
        assert not re.search(r"href|src=|url\(|@import|@font-face", picture)
        assert len(picture.encode()) < MOST_BYTES


@pytest.fixture
def mosquitto() -> Iterator[None]:
    need_mosquitto()
    yield


@pytest.mark.slow
@pytest.mark.usefixtures("mosquitto")
def test_every_picture_is_made_from_real_output_and_says_what_it_must(tmp_path: Path) -> None:
    assert program.main([str(tmp_path / "pictures"), "--settle", "0"]) == 0
    files = sorted((tmp_path / "pictures").iterdir())
    check({file.name: file.read_text(encoding="utf-8") for file in files})


@pytest.mark.usefixtures("mosquitto")
def test_without_a_failure_there_is_no_picture_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scene, "unplug", lambda _scene: None)
    with pytest.raises(RuntimeError, match=r"status found nothing wrong \(0\)"):
        program.pictures(0.0, say=lambda _line: None)


def test_the_committed_pictures_say_what_they_must() -> None:
    check({file.name: file.read_text(encoding="utf-8") for file in COMMITTED.iterdir()})


# Drawing


def typed(text: str, look: Look | None = None) -> list[Cell]:
    """Return a line of cells; what is above ASCII is wide, unless it is a block."""
    cells: list[Cell] = []
    for letter in text:
        cells.append((letter, look or Look()))
        if ord(letter) > 0x2FFF:
            cells.append(("", look or Look()))
    return cells


def test_columns_line_up_below_japanese() -> None:
    upper, lower = "状態  正常 a<b&c", "state  ok    a b c"
    read = lines_of(svg([typed(upper), typed(lower)], title="t", language="ja"))
    assert read == [upper, lower]


def test_an_empty_line_keeps_its_place_and_empty_lines_at_the_end_are_left_out() -> None:
    picture = svg([typed("a"), typed(" "), typed("b"), typed(" ")], title="t", language="en")
    assert lines_of(picture) == ["a", "", "b"]
    assert ElementTree.fromstring(picture).get("height") == "78"


def test_colours_are_classes_and_one_that_has_no_class_is_refused() -> None:
    bad = typed("SILENT", Look("ff5f00", is_bold=True))
    (text,) = ElementTree.fromstring(svg([bad], title="t", language="en")).iter(f"{SVG}text")
    assert text.get("class") == "bad bold"
    with pytest.raises(KeyError):
        svg([typed("x", Look("123456"))], title="t", language="en")


def test_blocks_of_a_plot_are_boxes_as_high_as_they_say() -> None:
    picture = ElementTree.fromstring(svg([typed("▂█")], title="t", language="en"))
    low, high = [
        float(box.get("height", 0))
        for box in picture.iter(f"{SVG}rect")
        if box.get("class") is None
    ]
    assert (low, high) == (4.5, 18.0)


def test_what_is_painted_the_other_way_round_has_a_ground_of_its_own() -> None:
    picture = ElementTree.fromstring(
        svg([typed("x", Look(is_turned=True))], title="t", language="en")
    )
    assert [text.get("class") for text in picture.iter(f"{SVG}text")] == ["turned"]
    assert len(list(picture.iter(f"{SVG}rect"))) == 2
