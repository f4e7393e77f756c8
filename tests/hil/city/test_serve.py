"""The city's page: it shows what is in the tables, escapes all of it, and a browser can draw it."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import uvicorn

from agent import record
from hil.bench.site import windows
from hil.city import cli, markup, plot
from hil.city.databases import opened
from hil.city.formats import ngsi
from hil.city.formats.observed import KINDS as KINDS_OF
from hil.city.formats.observed import between
from hil.city.formats.observed import sensors as sensors_of
from hil.city.messages import take
from hil.city.plot import Point, Series
from hil.city.rows import Rows
from hil.city.serve_verb import application
from hil.city.wire import utc_text
from hil.relay import hold_port
from hil.senders.gateway import Sender
from tests.hil.city.conftest import absent

HOURS = 25
KINDS = {
    "hall-1": ("people", "歩行者", "pedestrians"),
    "door-1": ("people", "出入口", "doorway"),
    "road-1": ("road", "車道", "carriageway"),
    "road-2": ("road", "歩道", "pavement"),
    "snow-1": ("snow", "積雪計", "snow gauge"),
    "snow-2": ("snow", "積雪計 予備", "second gauge"),
    "weather-1": ("weather", "気象", "weather"),
    "cabinet-1": ("cabinet", "盤", "cabinet"),
}
EVIL = "<script>alert('雪')</script>&\"'"


def a_town(database: str, now_s: float) -> None:
    """Write a day of three gateways: one well, one gone and with a hole, one with an evil name."""
    rows = Rows()

    def say(gateway: str, lane: str, document: Any) -> None:
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        take(rows, f"yukimi/v1/{gateway}/{lane}", f"{gateway}/{lane}", payload, utc_text(now_s))

    made = list(windows(8 * 60 * HOURS, end_ns=int(now_s) * 10**9))
    for gateway, label in (
        ("chikaho-03", {"ja": "チ・カ・ホ 北3条", "en": "Chi-Ka-Ho N3"}),
        ("kita-24", {"ja": "北24条 路側", "en": "N24 roadside"}),
        ("evil-1", {"ja": EVIL, "en": EVIL}),
    ):
        one = Sender(gateway, "nowhere", 1, seed=len(gateway))
        one.begin_run()
        numbers: dict[str, int] = {}
        for each in made if gateway != "evil-1" else made[-160:]:
            seq = numbers[each.stream] = numbers.get(each.stream, 0) + 1
            if gateway == "kita-24" and each.stream == "snow-1" and 500 <= seq < 620:
                continue
            payload = record.batch(gateway, one.run, each.kind, "c", [each.body(seq)])
            received_utc = utc_text(each.end_ns / 1e9 + 6.1)
            take(rows, "t", f"{gateway}/live/{each.kind}", payload, received_utc)
        sensors = [
            one.birth()["sensors"][0]
            | {"id": name, "kind": kind, "window_s": 60, "label": {"ja": ja, "en": en}}
            for name, (kind, ja, en) in KINDS.items()
        ]
        say(gateway, "status", one.birth() | {"label": label, "sensors": sensors})
        say(gateway, "health", one.health() | {"produced": numbers})
        if gateway == "kita-24":
            will = {"schema": "yukimi.status/1", "state": "offline", "gateway": gateway}
            say(gateway, "status", will | {"run": one.run})
    one = Sender("kita-24", "nowhere", 1, begin_ns=int(now_s - 3000) * 10**9)
    one.begin_run()
    one.raise_alert()
    say("kita-24", "alarm/snow-1/snow_dispatch", one.waiting[-1].body.encode())
    evil = json.loads(one.waiting[-1].body) | {"text": {"ja": EVIL, "en": EVIL}}
    say("evil-1", "alarm/snow-1/snow_dispatch", evil)
    say("evil-1", "live/snow", b"nonsense")
    with opened(database) as store:
        store.migrate()
        store.write(rows)
        store.receipted(store.owed(10_000))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the page, served for real."""
    database = f"sqlite:{tmp_path_factory.mktemp('town')}/city.db"
    a_town(database, time.time())
    with served(database) as url:
        yield url


class served:  # noqa: N801
    """Serve a database's page while it is open."""

    def __init__(self, database: str) -> None:
        self._holder = hold_port()
        port = self._holder.getsockname()[1]
        app = application(database, "Asia/Tokyo")
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> str:
        self._thread.start()
        until_s = time.monotonic() + 90
        while not self._server.started and time.monotonic() < until_s:
            time.sleep(0.02)
        return self.url

    def __exit__(self, *exc_info: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._holder.close()


def get(url: str, language: str = "") -> tuple[int, str, Any]:
    request = urllib.request.Request(url, headers={"Accept-Language": language})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode(), exc.headers


class Balance(HTMLParser):
    """Sees that every element that begins also ends."""

    VOID = frozenset(("meta", "br", "hr", "img"))

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def well_formed(html: str) -> set[str]:
    balance = Balance()
    balance.feed(html)
    assert balance.open == []
    return balance.names


def test_the_overview_shows_every_gateway_in_both_languages(page: str) -> None:
    status, japanese, headers = get(f"{page}/")
    assert status == 200
    for said in ("チ・カ・ホ 北3条", "北24条 路側", "途絶", "除雪の目安に達しました", "未着の番号"):
        assert said in japanese
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    _, english, _ = get(f"{page}/", "en-GB,en;q=0.9,ja;q=0.5")
    for said in ("Chi-Ka-Ho N3", "gone without a word", "Snow to be cleared", "numbers to come"):
        assert said in english
    assert '<html lang="en">' in english
    assert '<html lang="ja">' in get(f"{page}/?lang=ja", "en")[1]


def test_a_gateways_page_has_its_account_and_a_plot_for_each_sensor(page: str) -> None:
    status, html, _ = get(f"{page}/gateway/kita-24?lang=en")
    assert status == 200
    assert html.count("<figure>") == len(KINDS)
    assert html.count("<polyline") >= len(KINDS) + 2 + 1  # two directions twice, and a hole
    assert '<td class="n bad">120</td>' in html
    assert html.count('<td class="n">100.0 %</td>') == len(KINDS) - 1
    assert "snow depth" in html
    assert "95 % width" in html
    well_formed(html)


def test_whatever_a_gateway_says_is_text_and_nothing_else(page: str) -> None:
    for path in ("/", "/gateway/evil-1"):
        _, html, _ = get(f"{page}{path}")
        assert "<script" not in html
        assert "&lt;script&gt;alert(" in html
        names = well_formed(html)
        assert not names & {"script", "iframe", "img", "form", "link", "object"}


def test_what_one_gateway_says_takes_nobodys_page_or_export_away(
    database: str, tmp_path: Path
) -> None:
    """Whatever is valid JSON and none of the contract."""
    now_s = time.time()
    a_town(database, now_s)
    one = Sender("evil-1", "nowhere", 1)
    one.begin_run()
    births, figures = one.birth(), ("9" * 400, "1e300", "-1e300", "[]", "null", '"x"')
    rows = Rows()

    def say(lane: str, text: str) -> None:
        take(rows, f"t/{lane}", f"evil-1/{lane}", text.encode(), utc_text(now_s))

    sensor = births["sensors"][0]
    sensors = [
        sensor | {"id": f"s{n}-{kind}", "kind": kind, "directions": {"towards": 7}}
        for kind in ("people", "road", "snow", "weather", "position")
        for n, _ in enumerate(figures)
    ]
    say("status", json.dumps(births | {"sensors": sensors}))
    for kind in ("people", "road", "snow", "weather", "position"):
        for n, said in enumerate(figures):
            count = f'{{"count":{said},"unclamped":{said}}}'
            mean = f'{{"mean":{said},"min":{said},"max":{said}}}'
            values = [
                f'"towards":{count},"away":{count},"ci95":{said},"epsilon":{said}',
                f'"depth_cm":{mean},"condition":{{"mode":{said}}},"slipperiness":{said}',
                f'"location":{{"latitude":{said}}}' if n % 2 else f'"location":{said}',
            ]
            for seq, each in enumerate([*values, f"{values[0]},{values[1]}"], start=1):
                entry = json.dumps(
                    {
                        "stream": f"s{n}-{kind}",
                        "seq": seq,
                        "start": utc_text(now_s - 600 + 60 * seq),
                        "end": utc_text(now_s - 540 + 60 * seq),
                        "clock": {"state": "synced", "error_s": None},
                        "quality": {"flag": "good", "n": 1, "expected": 1},
                    }
                )
                head = {"schema": "yukimi.batch/1", "gateway": "evil-1", "run": "r", "kind": kind}
                batch = json.dumps(head | {"config": "c"})[:-1]
                say(f"live/{kind}", f'{batch},"records":[{entry[:-1]},"values":{{{each}}}}}]}}')
    health = '{"schema":"yukimi.health/1","gateway":"evil-1","run":"r","produced":{}'
    with opened(database) as store:
        store.write(rows)
    for spool in ("null", "7", '{"waiting":{}}', "[" * 900 + "]" * 900):
        rows = Rows()
        say("health", f'{health},"spool":{spool}}}')
        with opened(database) as store, served(database) as url:
            store.write(rows)
            for path in ("/", "/gateway/evil-1", "/gateway/kita-24"):
                assert get(f"{url}{path}")[0] == 200, (path, spool[:20])
    month = time.strftime("%Y-%m", time.gmtime(now_s + 9 * 3600))
    asked = ["export", "csv", "--database", database, "--month", month, "--out", str(tmp_path)]
    assert cli.main(asked) == 0
    with opened(database, read_only=True) as store:
        for kind in KINDS_OF:
            for each in sensors_of(store, kind):
                for observed in between(store, *each, now_s - 86400, now_s + 60):
                    entity = ngsi.entity(observed)
                    json.dumps(entity, allow_nan=False)


def test_a_clock_far_ahead_does_not_make_a_gateway_look_fresh(database: str) -> None:
    a_town(database, time.time() - 3 * 86400)
    with opened(database) as store:
        store.query(
            "INSERT INTO record SELECT gateway, run, stream, 10000, kind, start_utc,"
            " '2106-02-07T06:28:16.000Z', 'estimated', NULL, flag, reasons, n, expected,"
            ' "values", config, received_utc FROM record WHERE seq = 1 RETURNING seq'
        )
    with served(database) as url:
        html = get(f"{url}/?lang=en")[1]
    assert html.count("3 d ago</time>") >= 2 * 3  # heard of and newest, of three gateways
    assert "0 s ago" not in html


@pytest.mark.parametrize("path", ["/gateway/nobody", "/gateway/%3Cscript%3E", "/gateway/%00"])
def test_a_gateway_that_is_none_is_told(page: str, path: str) -> None:
    status, html, _ = get(f"{page}{path}")
    assert status == 404
    assert "<script" not in html


def test_nothing_can_be_written(page: str) -> None:
    request = urllib.request.Request(f"{page}/", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    with caught.value:
        assert caught.value.code == 405


def test_without_a_database_it_says_so(tmp_path: Path) -> None:
    with served(f"sqlite:{tmp_path}/none.db") as url:
        status, html, _ = get(f"{url}/?lang=en")
        assert status == 503
        assert "cannot be reached" in html
        assert get(f"{url}/healthz")[0] == 503


def test_an_empty_database_is_a_page(database: str) -> None:
    with opened(database) as store:
        store.migrate()
    with served(database) as url:
        assert "Nothing has come yet." in get(f"{url}/?lang=en")[1]
        assert get(f"{url}/healthz")[:2] == (200, "ok\n")


def test_either_database_gives_the_same_page(database: str) -> None:
    a_town(database, time.time())
    with served(database) as url:
        _, html, _ = get(f"{url}/gateway/chikaho-03?lang=en")
        assert html.count("<figure>") == len(KINDS)
        assert "chikaho-03" in get(f"{url}/")[1]


@pytest.mark.parametrize(
    ("path", "width", "name"),
    [
        ("/?lang=ja", 1200, "overview-ja"),
        ("/?lang=en", 420, "overview-en-phone"),
        ("/gateway/chikaho-03?lang=ja", 1200, "gateway-ja"),
        ("/gateway/kita-24?lang=en", 1200, "gateway-en"),
    ],
)
def test_a_browser_draws_it(page: str, path: str, width: int, name: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        absent("no chromium: apt install chromium")
    folder = Path(os.environ.get("YUKIMI_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{name}.png"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += [f"--window-size={width},1400", f"--user-data-dir={tmp_path}/profile"]
    options += [f"--screenshot={picture}", "--virtual-time-budget=3000"]
    done = subprocess.run(
        [str(browser), *options, f"{page}{path}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert picture.exists(), done.stderr
    head = picture.read_bytes()[:24]
    assert struct.unpack(">II", head[16:24]) == (width, 1400)
    assert picture.stat().st_size > 20_000  # an empty page is a few kB


# Pure


def test_a_plot_breaks_its_line_where_windows_are_missing() -> None:
    points = [Point(t, t + 60.0, 1.0 + t) for t in (0, 60, 120, 600, 660)]
    zone = ZoneInfo("Asia/Tokyo")
    drawn = plot.svg([Series("x", points)], unit="cm", from_s=0, to_s=3600, zone=zone).html
    assert drawn.count("<polyline") == 2
    well_formed(drawn)


@pytest.mark.parametrize(
    "values", [[0.0], [5.0, 5.0], [-1e-9, 1e-9], [1e9, -1e9], [0.1] * 2000, [0, 5e-324]]
)
def test_a_plot_of_anything_has_round_numbers_and_bounded_size(values: list[float]) -> None:
    points = [Point(60.0 * n, 60.0 * n + 60, value) for n, value in enumerate(values)]
    span = 60.0 * len(values)
    zone = ZoneInfo("UTC")
    html = plot.svg([Series("x", points)], unit="", from_s=0, to_s=span, zone=zone).html
    assert "nan" not in html.lower()
    for pair in re.findall(r"(-?[\d.]+),(-?[\d.]+)", html):
        assert 0 <= float(pair[0]) <= plot.WIDTH
        assert -1 <= float(pair[1]) <= plot.HEIGHT + 1
    assert len(html) < 30_000


def test_markup_escapes_texts_and_attributes() -> None:
    made = markup.tag("a", '<b>"', href='"><script>', class_=None).html
    assert made == '<a href="&quot;&gt;&lt;script&gt;">&lt;b&gt;&quot;</a>'
    assert markup.tag("br").html == "<br>"
