"""The running gateway is asked over its control socket, by tools and by those who mean harm."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from agent.asking import Asking, NotAnsweredError, ask
from agent.control import CLIENTS
from tests.e2e.conftest import CONTROL_SOCKET, PROJECT, Site

SENSORS = ("door-1", "hall-1", "road-1", "snow-2")
WAIT_S = 90.0
PEOPLE_KEYS = {
    *("id", "driver", "kind", "bus", "window_s", "label", "state", "since", "error", "record"),
    "directions",
}


@pytest.fixture
def running(site: Site) -> Site:
    """A gateway that delivers, and has an open socket."""
    site.configure(SENSORS, window_s=2)
    site.start()
    site.wait_online()
    wait_for(lambda: asked(path_of(site), "ping"))
    return site


def path_of(site: Site) -> Path:
    return site.folder / CONTROL_SOCKET


def wait_for(look: Callable[[], Any]) -> Any:
    until_s = time.monotonic() + WAIT_S
    while not (found := look()):
        assert time.monotonic() < until_s, "it never came to be"
        time.sleep(0.05)
    return found


def check(name: str, *documents: object) -> None:
    file = PROJECT / "docs" / "schemas" / f"control-{name}.json"
    schema = Draft202012Validator(json.loads(file.read_text(encoding="utf-8")))
    for document in documents:
        problems = list(schema.iter_errors(document))
        assert not problems, f"{name}: {problems[0]}"


def sensor(snapshot: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [each for each in snapshot["sensors"] if each["id"] == name]
    return dict(found)


def yukimi(site: Site, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    verb, *rest = arguments
    return subprocess.run(
        [sys.executable, "-m", "agent", verb, "--config", str(site.folder / "gateway.toml"), *rest],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
    )


# What it says


def test_the_state_of_a_gateway_is_told_as_it_is(running: Site) -> None:
    path = path_of(running)

    def settled() -> dict[str, Any] | None:
        snapshot: dict[str, Any] = ask(path, "status")
        is_measured = all(each["record"] for each in snapshot["sensors"])
        if not (is_measured and snapshot["uplink"]["acknowledged"]):
            return None
        road = sensor(snapshot, "road-1")  # its first window may have been too short for a value
        has_value = road["readings"] and road["record"]["values"]["surface_temperature_c"]
        return snapshot if has_value else None

    snapshot = wait_for(settled)
    check("status", snapshot)
    assert snapshot["gateway"]["run"] == running.spooled().run
    assert snapshot["gateway"]["label"] == {"ja": "試験場", "en": "Bench"}
    assert snapshot["uplink"]["broker"] == running.url
    assert snapshot["uplink"]["protocol"] == "5"
    assert snapshot["spool"]["path"] == str(running.spool)
    assert snapshot["clock"]["source"] in ("kernel", "system")
    road = sensor(snapshot, "road-1")
    assert road["state"] == "ok"
    assert road["readings"]["surface_temperature_c"]["value"] == pytest.approx(-4.0, abs=0.1)
    assert road["readings"]["surface_temperature_c"]["unit"] == "Cel"
    assert road["record"]["values"]["surface_temperature_c"]["mean"] == pytest.approx(-4, abs=0.1)
    assert {each["name"] for each in snapshot["threads"]} >= {"pipeline", "uplink", "bus walkway"}
    assert snapshot["resources"]["rss_bytes"] > 10**7
    check("spool", ask(path, "spool"))
    check("ping", ask(path, "ping"))


def test_the_network_away_is_told_with_its_reason_and_in_the_history(running: Site) -> None:
    path = path_of(running)
    running.relay.cut()
    snapshot = wait_for(
        lambda: (
            (s := ask(path, "status"))["uplink"]["broker"] is None and s["uplink"]["failure"] and s
        )
    )
    check("status", snapshot)
    assert snapshot["uplink"]["failure"]["broker"] == running.url
    assert snapshot["uplink"]["failure"]["reason"]
    wait_for(lambda: ask(path, "status")["spool"]["waiting"] > 3)
    (outage,) = [each for each in ask(path, "history")["outages"] if each["end"] is None]
    assert outage["reason"]
    running.relay.resume()
    wait_for(lambda: ask(path, "status")["uplink"]["broker"])
    wait_for(lambda: ask(path, "history")["alerts"])
    day = ask(path, "history")
    check("history", day)
    assert all(each["end"] for each in day["outages"])
    assert len(day["outages"]) >= 2  # the first was before the first connection
    # What was raised is there as well: the road is below zero.
    assert ("road-1", "freezing") in {(each["sensor"], each["alert"]) for each in day["alerts"]}


def test_the_last_day_of_a_sensor_is_told(running: Site) -> None:
    path = path_of(running)

    def told(name: str) -> dict[str, Any]:
        return ask(path, "history", sensor=name)["history"] or {}

    def means() -> list[float]:
        day = told("road-1").get("means", {}).get("surface_temperature_c", [])
        return [each for each in day if each is not None]

    # The first window of all may have been too short for a value.
    assert all(mean == pytest.approx(-4.0, abs=0.1) for mean in wait_for(means))
    windows = wait_for(
        lambda: [each for each in told("door-1").get("windows", []) if "towards" in each]
    )
    assert {"start", "end", "towards", "away"} == set(windows[0])
    check("history", *(ask(path, "history", sensor=name) for name in SENSORS))


def test_records_are_told_once_the_broker_has_them(running: Site) -> None:
    seen: list[dict[str, Any]] = []
    with Asking(path_of(running)) as asking:
        for line in asking.stream("records", line_timeout_s=WAIT_S):
            check("records", line)
            seen.append(line)
            if {each["record"]["stream"] for each in seen} >= set(SENSORS):
                break
    heard = {(r["stream"], r["seq"]) for r in running.records()}
    told = {(each["record"]["stream"], each["record"]["seq"]) for each in seen}
    running.wait_until(
        lambda: told <= {(r["stream"], r["seq"]) for r in running.records()}, "what was told"
    )
    assert heard


def test_who_watches_goes_on_watching_through_a_reload(running: Site) -> None:
    runs = []
    with Asking(path_of(running)) as asking:
        for line in asking.stream("watch", line_timeout_s=WAIT_S):
            check("watch", line)
            if "snapshot" in line:
                runs.append(line["snapshot"]["gateway"]["run"])
                if len(runs) == 1:
                    running.daemon.reload()
                if runs[-1] != runs[0]:
                    break


def test_readings_are_told_with_the_bytes_they_came_from(running: Site) -> None:
    with Asking(path_of(running)) as asking:
        lines = list(asking.stream("read", line_timeout_s=WAIT_S, sensor="road-1", n=2))
    check("read", *lines)
    first, *readings = lines
    assert first["sensor"]["id"] == "road-1"
    assert len(readings) == 2
    for line in readings:
        assert line["readings"]["surface_temperature_c"]["value"] == pytest.approx(-4.0, abs=0.1)
        assert {"rx", "tx"} <= {key for chunk in line["raw"] for key in chunk}
    detail = ask(path_of(running), "sensor", sensor="road-1")
    check("sensor", detail)
    assert any("rx" in chunk for chunk in detail["raw"])


# Of people


def test_of_people_nothing_is_told_but_state_and_released_figures(running: Site) -> None:
    path = path_of(running)
    wait_for(lambda: sensor(ask(path, "status"), "hall-1")["record"])
    snapshot = ask(path, "status")
    for name in ("hall-1", "door-1"):
        detail = ask(path, "sensor", sensor=name)
        assert set(detail) == {"sensor"}, "no bytes"
        read = ask(path, "read", sensor=name, n=5)
        assert set(read) == {"sensor"}, "no readings"
        for part in (sensor(snapshot, name), detail["sensor"], read["sensor"]):
            assert set(part) == PEOPLE_KEYS
            assert part["error"] is None


def test_released_figures_are_shown_no_sooner_than_they_are_published(site: Site) -> None:
    offset_s = 1.5
    site.configure(("door-1",), window_s=3, offset_s=offset_s)
    site.start()
    site.wait_online()
    wait_for(lambda: asked(path_of(site), "ping"))
    ends, soonest_s = set(), math.inf
    with Asking(path_of(site)) as asking:
        for line in asking.stream("watch", line_timeout_s=WAIT_S):
            snapshot = line.get("snapshot")
            if snapshot is not None and (record := sensor(snapshot, "door-1")["record"]):
                ends.add(record["end"])
                soonest_s = min(soonest_s, seconds(snapshot["time"]) - seconds(record["end"]))
            if len(ends) >= 3:
                break
    assert soonest_s >= offset_s


def test_control_what_is_measured_is_shown_at_once(site: Site) -> None:
    """The negative control of the one above: the time can be told from a snapshot."""
    site.configure(("snow-2",), window_s=3, offset_s=20.0)
    site.start()
    wait_for(lambda: site.daemon.said("started") and asked(path_of(site), "ping"))
    record = wait_for(lambda: sensor(ask(path_of(site), "status"), "snow-2")["record"])
    snapshot = ask(path_of(site), "status")
    assert seconds(snapshot["time"]) - seconds(record["end"]) < 20.0


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


# The tools


def test_status_shows_a_screen_and_ends_with_what_is_wrong(running: Site) -> None:
    wait_for(lambda: all(s["record"] for s in ask(path_of(running), "status")["sensors"]))
    shown = yukimi(running, "status")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert all(name in shown.stdout for name in (*SENSORS, "Bench", running.url))
    japanese = yukimi(running, "status", LC_ALL="ja_JP.UTF-8")
    assert "試験場" in japanese.stdout
    assert "正常" in japanese.stdout
    said = yukimi(running, "status", "--json")
    check("status", json.loads(said.stdout))
    one = yukimi(running, "status", "road-1")
    assert "surface_temperature_c" in one.stdout
    assert yukimi(running, "status", "road-9").returncode == 2
    running.relay.cut()
    wait_for(lambda: ask(path_of(running), "status")["uplink"]["broker"] is None)
    assert yukimi(running, "status").returncode == 1


def test_without_a_gateway_status_shows_what_is_configured(site: Site) -> None:
    site.configure(SENSORS)
    shown = yukimi(site, "status")
    assert shown.returncode == 69
    assert all(name in shown.stdout for name in SENSORS)
    assert "is it running?" in shown.stderr
    said = yukimi(site, "status", "--json")
    assert said.returncode == 69
    check("status", json.loads(said.stdout))


def test_read_asks_the_gateway_that_holds_the_bus(running: Site) -> None:
    said = yukimi(running, "read", "road-1", "-n", "2", "--json")
    assert said.returncode == 0, said.stderr
    document = json.loads(said.stdout)
    assert document["by"] == "gateway"
    assert len(document["readings"]) == 2
    assert document["readings"][0]["raw"]
    shown = yukimi(running, "read", "snow-2")
    assert "depth_cm" in shown.stdout
    hall = yukimi(running, "read", "hall-1")
    assert hall.returncode == 0
    assert "--consent" in hall.stdout
    refused = yukimi(running, "read", "hall-1", "--consent")
    assert refused.returncode == 69
    assert "systemctl stop yukimi" in refused.stderr


# Clients that do harm


def test_nothing_that_clients_do_harms_the_gateway(running: Site) -> None:
    path = path_of(running)
    before = ask(path, "status")["resources"]
    with Misuse(path) as misuse:
        count = len(running.records("snow-2", lane="live"))
        misuse.noise(1000)
        misuse.crowd(200)
        misuse.killed(5)
        running.wait_until(
            lambda: len(running.records("snow-2", lane="live")) >= count + 3, "records meanwhile"
        )
    after = wait_for(lambda: asked(path, "status"))["resources"]
    assert after["rss_bytes"] < before["rss_bytes"] + 8 * 2**20
    assert wait_for(lambda: asked(path, "status"))["control"]["clients"] <= CLIENTS
    assert "bug" not in "".join(running.daemon.log)
    running.stop()
    assert not path.exists()
    running.close_account()


def asked(path: Path, name: str) -> dict[str, Any] | None:
    """Ask; None while too many others do, or nobody is there yet."""
    try:
        return dict(ask(path, name, timeout_s=WAIT_S))
    except NotAnsweredError as exc:
        assert exc.code in ("busy", "starting", "unreachable"), exc
        return None


class Misuse:
    """Clients of all the bad kinds; some stay, deaf and halfway, until the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._noise = random.Random(7)
        self._stack = ExitStack()

    def __enter__(self) -> Misuse:
        with ExitStack() as stack:
            stack.enter_context(self._connect()).sendall(b'{"control":')
            deaf = stack.enter_context(self._connect())
            deaf.sendall(b'{"control":"yukimi.control/1","ask":"watch"}\n')
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def noise(self, count: int) -> None:
        good = b'{"control":"yukimi.control/1","ask":"status","sensor":["x",{}]}'
        for _ in range(count):
            junk = self._noise.choice(
                (
                    self._noise.randbytes(self._noise.randrange(9000)),
                    good[: self._noise.randrange(len(good))] + b"\n",
                    good.replace(b"status", self._noise.choice((b"read", b"sensor", b"x" * 4200))),
                    b"{" * 3000 + b"\n",
                )
            )
            with self._connect() as sock, suppress(OSError):
                sock.sendall(junk + b"\n")
                if self._noise.random() < 0.2:
                    sock.recv(4096)

    def crowd(self, count: int) -> None:
        """So many at once; each is answered or told that there are too many."""
        replies: list[bytes] = []
        start = threading.Barrier(count)

        def client() -> None:
            start.wait()
            with self._connect() as sock, suppress(ConnectionResetError, BrokenPipeError):
                sock.sendall(b'{"control":"yukimi.control/1","ask":"ping"}\n')
                replies.append(sock.recv(4096))

        threads = [threading.Thread(target=client) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert any(b'"ok":true' in reply for reply in replies)
        assert any(b'"busy"' in reply for reply in replies)

    def killed(self, count: int) -> None:
        """Processes that listen to a stream, and are killed in the middle of it."""
        script = (
            "import sys; from pathlib import Path; from agent.asking import Asking\n"
            "with Asking(Path(sys.argv[1])) as asking:\n"
            "    for line in asking.stream('watch'): print(flush=True)\n"
        )
        for _ in range(count):
            wait_for(lambda: asked(self._path, "ping"))
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(self._path)], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(WAIT_S)
        while True:
            try:
                sock.connect(str(self._path))
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                sock.close()
                raise
            else:
                return sock
