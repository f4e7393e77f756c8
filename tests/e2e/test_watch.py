"""`yukimi watch` on a real terminal, beside a running gateway: what is seen, and what is left."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

from agent.cli.dashboard import AGE, ID, STATE, VALUE
from tests.e2e.conftest import Site
from tests.e2e.watching import WAIT_S, Watching, assert_cells

SENSORS = ("hall-1", "snow-1", "road-1", "snow-2")  # by bus
STATE_AT = 4 + ID + 2
VALUE_AT = STATE_AT + STATE + 2
AGE_ENDS = VALUE_AT + VALUE + 2 + AGE
UP, DOWN, ESCAPE, CTRL_C = "\x1b[A", "\x1b[B", "\x1b", "\x03"

ENGLISH, JAPANESE = "C.UTF-8", "ja_JP.UTF-8"
OK = {ENGLISH: " ok ", JAPANESE: "正常"}
RECORDS = {ENGLISH: "records as they leave", JAPANESE: "送信された記録"}
DEPTH = {ENGLISH: "depth ", JAPANESE: "積雪深"}
RAW = {ENGLISH: "raw", JAPANESE: "生データ"}


@pytest.fixture
def running(site: Site) -> Iterator[Path]:
    """The configuration of a gateway that runs."""
    config = site.configure(SENSORS)
    site.start()
    site.wait_online()
    yield config


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_dead(processes: list[int]) -> None:
    until_s = time.monotonic() + WAIT_S
    while any(map(is_alive, processes)):
        assert time.monotonic() < until_s, "it lives on without a terminal"
        time.sleep(0.05)


@pytest.mark.parametrize("locale", [ENGLISH, JAPANESE])
def test_all_is_seen_on_one_screen_and_columns_line_up(running: Path, locale: str) -> None:
    with Watching(running, locale=locale) as screen:
        screen.wait(*SENSORS, OK[locale], "mqtt://", RECORDS[locale])
        screen.wait(
            "#", where=lambda lines: any("snow-2" in line and "#" in line for line in lines)
        )
        assert_cells(screen)
        for number, sensor in enumerate(SENSORS, 1):
            line = screen.cells(screen.line(f"{number} {sensor}"))
            assert line[STATE_AT - 2 : STATE_AT] == [" ", " "]
            assert line[STATE_AT] != " "
            assert line[VALUE_AT - 2 : VALUE_AT] == [" ", " "]
            assert line[VALUE_AT] != " "
            assert line[AGE_ENDS : AGE_ENDS + 2] == [" ", " "]
        snow = screen.cells(screen.line("4 snow-2"))
        assert "".join(snow[AGE_ENDS - 2 : AGE_ENDS]).strip() in ("s", "n", "秒", "分")
        screen.press("q")
        assert screen.wait_end() == 0


@pytest.mark.parametrize("locale", [ENGLISH, JAPANESE])
def test_one_key_into_a_sensor_and_one_back(running: Path, locale: str) -> None:
    with Watching(running, locale=locale) as screen:
        screen.wait(*SENSORS, OK[locale])
        screen.press("2")
        screen.wait("snow-1", "lufft-umb", RAW[locale], "rx 01 10", DEPTH[locale])
        assert_cells(screen)
        screen.press(DOWN + DOWN)
        screen.wait("snow-2", "maxbotix-hrxl", DEPTH[locale], "rx ")
        screen.press(ESCAPE)
        screen.wait(*SENSORS, RECORDS[locale])
        screen.press(UP)
        screen.wait("> 3 road-1")
        screen.press("q")
        assert screen.wait_end() == 0


def test_of_a_people_sensor_state_and_released_figures_are_seen_and_no_bytes(
    running: Path,
) -> None:
    with Watching(running) as screen:
        screen.wait("hall-1", "towards")
        screen.press("1")
        screen.wait("released counts", "95 % are within 12", "shown nowhere")
        screen.wait("towards ", where=lambda lines: any(" - " in line for line in lines))
        for _ in range(10):
            screen.read()
        text = "\n".join(screen.lines)
        for hint in ("rx ", "tx ", "raw", "0x", "polls", "damaged frames", "/s"):
            assert hint not in text, text
        screen.press("q")
        assert screen.wait_end() == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 0)],
)
def test_whatever_ends_it_the_terminal_is_as_before(running: Path, number: int, code: int) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS)
        screen.signal(number)
        assert screen.wait_end() == code


def test_killed_it_can_tidy_nothing_up_and_that_is_noticed(running: Path) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS)
        screen.signal(signal.SIGKILL)
        with pytest.raises(AssertionError):
            screen.wait_end()


def test_ctrl_c_ends_it(running: Path) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS)
        screen.press(CTRL_C)
        assert screen.wait_end() == 0


def test_a_bug_leaves_the_terminal_as_before_and_says_what_it_was(running: Path) -> None:
    broken = (
        "import agent.cli.dashboard as d\n"
        "kept = d.screen\n"
        "def screen(watched, now_s, frame):\n"
        "    if watched.into: raise RuntimeError('a bug, for once')\n"
        "    return kept(watched, now_s, frame)\n"
        "d.screen = screen"
    )
    with Watching(running, before=broken) as screen:
        screen.wait(*SENSORS)
        screen.press("2")
        assert screen.wait_end() == 1
        assert b"RuntimeError: a bug, for once" in screen.written


def test_a_terminal_that_is_gone_ends_it(running: Path) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS)
        processes = screen.hang_up()
        assert processes
        wait_dead(processes)


def test_stopped_and_continued_it_gives_the_terminal_back_meanwhile(running: Path) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS)
        screen.signal(signal.SIGTSTP)
        until_s = time.monotonic() + WAIT_S
        while b"\x1b[?1049l" not in screen.written:
            assert time.monotonic() < until_s
            screen.read()
        screen.screen.reset()
        screen.signal(signal.SIGCONT)
        screen.wait(*SENSORS)
        screen.press("q")
        assert screen.wait_end() == 0


def test_a_gateway_that_goes_is_missed_and_its_return_seen(site: Site, running: Path) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS, "connected")
        site.stop()
        screen.wait("NO ANSWER", *SENSORS)
        site.start()
        site.wait_online()
        screen.wait("connected", where=lambda lines: not any("NO ANSWER" in each for each in lines))
        screen.press("q")
        assert screen.wait_end() == 0


def test_a_sensor_that_falls_silent_is_told_in_words(site: Site, running: Path) -> None:
    with Watching(running) as screen:
        screen.wait("3 road-1")
        site.mast.unplug()
        screen.wait(
            where=lambda lines: any("road-1" in each and "SILENT" in each for each in lines)
        )
        screen.press("q")
        assert screen.wait_end() == 0


def test_another_size_is_filled_at_once(running: Path) -> None:
    with Watching(running) as screen:
        screen.wait(*SENSORS)
        screen.resize(100, 40)
        screen.wait(*SENSORS, where=lambda lines: "q quit" in lines[39])
        screen.resize(60, 14)
        screen.wait("snow-1", where=lambda lines: "q quit" in lines[13])
        assert_cells(screen)
        screen.press("q")
        assert screen.wait_end() == 0


def test_the_text_console_of_linux_gets_what_it_has_glyphs_for(running: Path) -> None:
    with Watching(running, locale=JAPANESE, terminal="linux") as screen:
        screen.wait(*SENSORS, "records as they leave")
        screen.press("2")
        screen.wait("depth ", " cm ", "rx")
        assert "\n".join(screen.lines).isascii()
        screen.press("q")
        assert screen.wait_end() == 0


def test_where_rich_is_missing_it_says_what_to_install_and_goes_on_in_lines(
    running: Path,
) -> None:
    before = "import sys; sys.modules['rich'] = None"
    with Watching(running, before=before, columns=200) as screen:
        screen.wait("pip install 'yukimi[cli]'", "snow-1 ok")
        assert b"\x1b[?1049h" not in screen.written
        screen.press(CTRL_C)


# Without a terminal


class Piped:
    """`yukimi watch` into a pipe."""

    def __init__(self, config: Path, *options: str, locale: str = ENGLISH) -> None:
        command = [sys.executable, "-m", "agent", "watch", "--config", str(config), *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "LC_ALL": locale},
        )
        self._lines: Queue[str] = Queue()
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def wait(self, pattern: str) -> str:
        """Return the next line that matches."""
        try:
            while True:
                line = self._lines.get(timeout=WAIT_S)
                if re.search(pattern, line):
                    return line
        except Empty:
            return pytest.fail(f"no line like {pattern}")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))


def test_into_a_pipe_goes_a_line_for_each_change(site: Site, running: Path) -> None:
    with Piped(running) as watch:
        watch.wait(r"connected: mqtt://")
        watch.wait(r"snow-2 ok")
        watch.wait(r"live +snow-2 .*#\d+ .*depth 6")
        site.relay.cut()
        watch.wait(r"not connected")
        site.relay.resume()
        watch.wait(r"connected: mqtt://")
        site.mast.unplug()
        watch.wait(r"snow-1 SILENT: ")
        site.stop()
        watch.wait(r"no gateway answers|hung up|stops")
        site.start()
        watch.wait(r"answers again")
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(WAIT_S) == 0


def test_the_lines_are_japanese_in_japan(running: Path) -> None:
    with Piped(running, locale=JAPANESE) as watch:
        watch.wait(r"接続しました: mqtt://")
        watch.wait(r"snow-2 正常")
        watch.wait(r"現在 +snow-2 .*積雪深 6")


def test_json_lines_are_the_same_in_any_language(running: Path) -> None:
    for locale in (ENGLISH, JAPANESE):
        with Piped(running, "--json", locale=locale) as watch:
            snapshot = json.loads(watch.wait("snapshot"))
            assert snapshot["schema"] == "yukimi.watch/1"
            assert [each["id"] for each in snapshot["snapshot"]["sensors"]] == list(SENSORS)
            assert "正常" not in json.dumps(snapshot, ensure_ascii=False)
            record = json.loads(watch.wait('"lane": "'))
            assert record["schema"] == "yukimi.watch/1"
            assert record["lane"] in ("alert", "live", "backlog")


def test_whoever_has_read_enough_of_it_ends_it(running: Path) -> None:
    command = [sys.executable, "-m", "agent", "watch", "--json", "--config", str(running)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(WAIT_S) == 0
        assert process.stderr.read() == b""


def test_where_no_gateway_runs_it_says_so_and_exits_69(site: Site) -> None:
    config = site.configure(SENSORS)
    for options in ((), ("--json",), ("--plain",)):
        with Piped(config, *options) as watch:
            assert watch.process.wait(WAIT_S) == 69
            assert watch.process.stderr is not None
            assert "systemctl status yukimi" in watch.process.stderr.read()
    with Watching(config) as screen:
        screen.wait("no gateway answers")
        while screen.read():
            pass
        assert b"code 69" in screen.written
        assert b"\x1b[?1049h" not in screen.written
