"""config.txt as a Pi's firmware reads it: comments, filters, the last word wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.doctor.firmware import overlays, parameter, settings
from agent.doctor.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    roots = {"/boot": tmp_path / "boot", "/sys": tmp_path / "sys"}
    return Site(tmp_path / "gateway.toml", roots=roots)


def write(site: Site, text: str, *, model: str = "Raspberry Pi 4 Model B Rev 1.4") -> None:
    for path, content in (
        ("/boot/firmware/config.txt", text),
        ("/sys/firmware/devicetree/base/model", f"{model}\0"),
    ):
        site.at(path).parent.mkdir(parents=True, exist_ok=True)
        site.at(path).write_text(content)


def test_a_comment_is_none_and_a_setting_may_have_one(site: Site) -> None:
    write(site, "#dtparam=i2c_arm=on\nenable_uart=1   # for the ranger\n\n")
    assert settings(site) == ["enable_uart=1"]
    assert parameter(site, "i2c_arm") is None


def test_the_last_word_wins_and_one_line_may_hold_several(site: Site) -> None:
    write(site, "dtparam=i2c_arm=on,i2c_arm_baudrate=50000\ndtparam=i2c_arm=off\n")
    assert parameter(site, "i2c_arm") == "off"
    assert parameter(site, "i2c_arm_baudrate") == "50000"


@pytest.mark.parametrize(
    ("model", "seen"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4", ["dtoverlay=a", "dtoverlay=four", "dtoverlay=z"]),
        ("Raspberry Pi 5 Model B Rev 1.0", ["dtoverlay=a", "dtoverlay=five", "dtoverlay=z"]),
    ],
)
def test_what_is_filtered_for_another_board_does_not_count(
    site: Site, model: str, seen: list[str]
) -> None:
    text = "dtoverlay=a\n[pi4]\ndtoverlay=four\n[pi5]\ndtoverlay=five\n[none]\nx=1\n[all]\n"
    write(site, f"{text}dtoverlay=z\n", model=model)
    assert settings(site) == seen


def test_an_overlay_is_found_by_its_whole_name(site: Site) -> None:
    write(site, "dtoverlay=w1-gpio-pullup\ndtoverlay=i2c-rtc,ds3231\n")
    assert overlays(site, "i2c-rtc") == ["dtoverlay=i2c-rtc,ds3231"]
    assert overlays(site, "w1-gpio") == []


def test_an_old_system_has_its_files_in_boot_itself(site: Site) -> None:
    site.at("/boot").mkdir()
    site.at("/boot/config.txt").write_text("enable_uart=1\n")
    assert settings(site) == ["enable_uart=1"]
