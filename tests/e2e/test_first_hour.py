"""The first hour: from an empty directory to published data, by `yukimi init` and `yukimi run`.

A person answers at a real terminal; the devices answer on pseudo-terminals that stand in a /dev of
their own, under the names that udev would give them; the broker wants a password.
"""

from __future__ import annotations

import stat
import subprocess
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.kernel import boot_s
from hil.broker import Mosquitto
from hil.buses import Pty
from hil.city.subscriber import City
from hil.devices.gnss import GnssReceiver
from hil.devices.maxbotix import MaxBotixDevice
from tests.e2e.conftest import (
    GATEWAY,
    MOUNT_HEIGHT_CM,
    POST_DEPTH_CM,
    ROAD_C,
    Site,
    need_mosquitto,
)
from tests.e2e.terminal import Person

PASSWORD = "yuki no naka"
NAMES = {"mast": "usb-FTDI_RS485-port0", "post": "usb-Prolific_1-port0", "gnss": "usb-u-blox_7"}


@contextmanager
def town(folder: Path) -> Iterator[tuple[Site, Path]]:
    """A site whose broker wants a password, and the root of a machine with its devices."""
    need_mosquitto()
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    for name, password in ((GATEWAY, PASSWORD), ("city", "machi")):
        subprocess.run(
            ["mosquitto_passwd", "-b", str(passwords), name, password],
            check=True,
            capture_output=True,
        )
    city = partial(City, credentials=("city", "machi"))
    home = folder / "home"
    home.mkdir()
    receiver = GnssReceiver(lambda _: time.time(), baud=9600)
    with (
        Site(home, Mosquitto(password_file=passwords), make_city=city) as site,
        Pty([receiver], boot_s) as gnss,
    ):
        site.listen()
        yield site, machine(folder / "machine", mast=site.mast, post=site.post, gnss=gnss)


def machine(root: Path, **ports: Pty) -> Path:
    """Build a /dev with these ports in it, by udev's names."""
    (root / "dev/serial/by-id").mkdir(parents=True)
    for number, (name, pty) in enumerate(ports.items()):
        (root / f"dev/ttyUSB{number}").symlink_to(pty.path)
        (root / "dev/serial/by-id" / NAMES[name]).symlink_to(f"../../ttyUSB{number}")
    return root


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


@pytest.mark.slow
def test_an_empty_directory_becomes_a_gateway_whose_records_arrive(tmp_path: Path) -> None:
    with town(tmp_path) as (site, root):
        config = site.folder / "gateway.toml"
        with Person(root, "init", folder=site.folder, config=config) as person:
            person.answers("Id of this gateway [", "Site 01")
            person.reads("1 to 64 characters of a-z, 0-9 and -")
            person.answers("Id of this gateway [", GATEWAY)
            person.answers("in Japanese [none]", "北3条 積雪")
            person.answers("in English [none]")
            person.answers("Latitude and longitude [none]", "?")
            person.reads("Degrees, WGS 84")
            person.answers("Latitude and longitude [none]", "43.0640, 141.3510")
            person.answers("broker", site.url)
            person.answers("User name", GATEWAY)
            person.answers("Password", PASSWORD)
            person.answers("how many seconds [60]", "7")
            person.reads("divides 3600")
            person.answers("how many seconds [60]", "10")
            person.answers("File in which records wait")
            if person.screen.expect(["Believe: kernel or system", "Looking for devices"]) == 0:
                person.screen.sendline("system")
            person.answers("Take lufft-umb on", "y")
            person.answers("its id [road-1]")
            person.answers("Take lufft-umb on", "yes")
            person.answers("its id [snow-1]")
            person.answers("Take maxbotix-hrxl on")
            person.answers("its id [snow-2]", "post")
            person.answers("above the bare ground, cm", "tall")
            person.reads("must be a number")
            person.answers("above the bare ground, cm", f"{MOUNT_HEIGHT_CM:g}")
            person.answers("Take nmea-gnss on")
            person.answers("its id [position-1]", "gnss-1")
            person.reads(
                "Reading every sensor once", "surface_temperature_c", "-3.9", "depth_cm", "42"
            )
            person.reads("latitude_deg")
            assert not config.exists()
            person.answers("Write ")
            person.reads("written: ", "next:  yukimi run --config")
            assert person.leaves() == 0
        assert PASSWORD not in person.seen
        assert (mode(config), mode(site.folder / "broker-password")) == (0o640, 0o600)
        assert PASSWORD not in config.read_text(encoding="utf-8")
        with Person(root, "commission", "post", folder=site.folder, config=config) as person:
            person.answers("Depth of snow below the sensor", f"{POST_DEPTH_CM:g}")
            person.answers("Who tests [", "Yuki")
            person.reads("post: PASS", "recorded: ")
            assert person.leaves() == 0
        site.start()
        site.wait_online()
        (birth,) = [status for status in site.statuses() if status["state"] == "online"]
        assert birth["label"] == {"ja": "北3条 積雪"}
        streams = [sensor["id"] for sensor in birth["sensors"]]
        assert streams == ["road-1", "snow-1", "post", "gnss-1"]
        tested = [sensor["id"] for sensor in birth["sensors"] if "commissioned" in sensor]
        assert tested == ["post"]
        for stream in streams:
            site.wait_records(stream, 1)
        (road, post) = (site.records(stream, lane="live")[-1] for stream in ("road-1", "post"))
        assert road["values"]["surface_temperature_c"]["mean"] == pytest.approx(ROAD_C, abs=0.5)
        assert post["values"]["depth_cm"]["mean"] == pytest.approx(POST_DEPTH_CM, abs=0.5)
        assert site.stop() == 0
        site.close_account()


def test_a_japanese_person_is_asked_in_japanese(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    ranger = MaxBotixDevice(lambda _: POST_DEPTH_CM, mount_height_cm=MOUNT_HEIGHT_CM)
    with Pty([ranger], boot_s) as post:
        root = machine(tmp_path / "machine", post=post)
        words = ("init", "--clock", "system")
        with Person(root, *words, language="ja", folder=tmp_path, config=config) as person:
            person.answers("このゲートウェイのID [", "北3条")
            person.reads("1～64文字")
            person.answers("このゲートウェイのID [", "kita-3")
            person.answers("名称（日本語） [なし]", "北3条 積雪")
            person.answers("名称（英語） [なし]", "N3 snow")
            person.answers("緯度と経度 [なし]", "４３．０６、１４１．３５")
            person.answers("市の中継サーバー", "mqtt://127.0.0.1:1")
            person.answers("利用者名 [なし]")
            person.answers("記録間隔（秒） [60]", "？")
            person.reads("通行者数は常に15分単位")
            person.answers("記録間隔（秒） [60]")
            person.answers("保管するファイル [")
            person.answers("設定に加えますか [Y/n]", "はい")
            person.answers("センサーのID [snow-1]")
            person.answers("地面までの高さ（cm）", f"{MOUNT_HEIGHT_CM:g}")
            person.reads("snow-1: 正常", "depth_cm")
            person.answers("書き込みますか [Y/n]")
            person.reads("書き込みました", "次の操作")
            assert person.leaves() == 0
    text = config.read_text(encoding="utf-8")
    document = tomllib.loads(text)
    assert document["gateway"]["label"] == {"ja": "北3条 積雪", "en": "N3 snow"}
    assert document["gateway"]["location"] == {"latitude": 43.06, "longitude": 141.35}
    assert "この秒数ごとに記録します" in text


def test_ctrl_c_at_a_question_leaves_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path / "machine")
    folder = tmp_path / "home"
    folder.mkdir()
    config = folder / "gateway.toml"
    words = ("init", "--id", "x", "--broker", "mqtt://b", "--label-ja=")
    with Person(root, *words, folder=folder, config=config) as person:
        person.answers("in English")
        person.reads("Latitude")
        person.screen.sendcontrol("c")
        person.reads("nothing was written")
        assert person.leaves() == 130
    assert list(folder.iterdir()) == []
