"""A tour of one gateway: emulated devices, a broker, a city that listens, and a cut in between.

The gateway is the real daemon in a process of its own. The cabinet's devices answer on real
pseudo-terminals, the walkway's thermal array and beams on a simulated bus inside the daemon. What
was produced is read from the spool afterwards, what arrived is the city's own account: the two are
held against each other, record by record.
"""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from agent.cli.language import language, said
from config.text import Text
from drivers.gpio import boot_ns

from .broker import EmbeddedBroker
from .buses import Pty
from .city.account import Report
from .city.subscriber import City
from .devices.lufft import irs31pro, shm31, winter_snow_cm
from .devices.maxbotix import MaxBotixDevice
from .ledger import glance
from .relay import Relay

GATEWAY = "tour"
MOUNT_HEIGHT_CM = 350.0
WINDOW_S = 5
STOP_S = 60.0

_CONFIG = """\
[gateway]
id = "{gateway}"
label = {{ ja = "チ・カ・ホ 北3条", en = "Chi-Ka-Ho N3" }}
location = {{ latitude = 43.0640, longitude = 141.3510 }}
owner = "City of Sapporo"
licence = "CC-BY-4.0"

[uplink]
brokers = ["mqtt://127.0.0.1:{port}"]
protocol = "3.1.1"               # all that the embedded broker speaks
offset_s = 2.0

[control]
socket = "control.sock"

[spool]
path = "spool.db"

[clock]
trust = "system"

[privacy.flow]
window_s = {window_s}                     # minutes are too long for a tour; real sensors: 900

[[buses]]
id = "walkway"
kind = "simulated"

[[sensors]]
id = "hall-1"
driver = "grideye-amg88xx"
bus = "walkway"
options = {{ warmup_s = 3.0 }}

[[sensors]]
id = "door-1"
driver = "beam-pair"
bus = "walkway"
options = {{ pin_a = 17, pin_b = 27 }}

[[sensors]]
id = "road-1"
driver = "lufft-umb"
bus = "{rs485}"
window_s = {window_s}
options = {{ model = "irs31pro", interval_s = 1.0 }}

[[sensors]]
id = "snow-1"
driver = "lufft-umb"
bus = "{rs485}"
window_s = {window_s}
options = {{ model = "shm31", interval_s = 1.0 }}

[[sensors]]
id = "snow-2"
driver = "maxbotix-hrxl"
bus = "{ranger}"
window_s = {window_s}
options = {{ mount_height_cm = {mount_height_cm} }}
"""


ROAD_SNOW = Text(
    "road-1 IRS31Pro and snow-1 SHM31, one RS-485 line: {path}",
    "road-1 IRS31Pro と snow-1 SHM31（1本のRS-485）: {path}",
)
RANGER = Text("snow-2 MaxBotix, free-running: {path}", "snow-2 MaxBotix（連続送信）: {path}")
WALKWAY = Text(
    "hall-1 Grid-EYE thermal array and door-1 light beams: simulated I2C and pins",
    "hall-1 Grid-EYE 熱画像アレイと door-1 光ビーム: 模擬のI2Cと端子",
)
THE_CITY = Text(
    "The city: a broker and a subscriber that keeps the account",
    "市側（中継サーバーと、収支をつける受信システム）",
)
NETWORK_A = Text(
    "broker on port {broker}; the gateway reaches it through port {relay},",
    "中継サーバーはポート{broker}、装置からはポート{relay}の",
)
NETWORK_B = Text("a network that can be cut", "切断できる回線を通して接続します")
STARTS = Text(
    "The gateway starts: a record of each sensor every {window_s} s",
    "装置の起動（センサーごとに{window_s}秒に1件の記録）",
)
CUT = Text(
    "The network is cut for {seconds:.0f} s; the gateway goes on measuring",
    "回線を{seconds:.0f}秒間切断（装置は測定を続けます）",
)
WAIT = Text(
    "{count} records wait in the spool, on disk",
    "{count}件の記録が、記憶媒体上で送信を待っています",
)
BACK = Text(
    "The network is back: the present first, then the backlog",
    "回線の復旧（最新の記録を先に、たまった記録を後に送ります）",
)
STOPS = Text(
    "The gateway is told to stop: it sends what it has and says good-bye",
    "装置の停止（残りを送信してから終了を通知します）",
)
THE_ACCOUNT = Text(
    "The account: what the spool gave numbers to, against what the city holds",
    "収支（装置が番号を付けた記録と、市側に届いた記録の照合）",
)
ENDED = Text("the gateway ended with exit code {code}", "装置は終了コード{code}で終わりました")
COMPLETE = Text("Every record is accounted for.", "すべての記録の所在を確認しました。")
INCOMPLETE = Text("RECORDS ARE MISSING.", "記録が不足しています。")


def demo(seconds: int, *, as_json: bool) -> int:
    """Give the tour; return 0 if every record was accounted for, else 1."""
    say = _Voice(quiet=as_json)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yukimi-demo-")))
        say.chapter(Text("The devices, emulated byte by byte", "機器（1バイトずつ模擬します）"))
        rs485 = stack.enter_context(Pty([irs31pro(), shm31()], now_s))
        ranger = MaxBotixDevice(winter_snow_cm, mount_height_cm=MOUNT_HEIGHT_CM)
        serial = stack.enter_context(Pty([ranger], now_s))
        say(ROAD_SNOW.filled(path=_tty(rs485)))
        say(RANGER.filled(path=_tty(serial)))
        say(WALKWAY)

        say.chapter(THE_CITY)
        broker = stack.enter_context(EmbeddedBroker())
        city = City(broker.host, broker.port, protocol=311, on_message=say.received)
        stack.enter_context(city)
        city.wait_subscribed()
        relay = stack.enter_context(Relay(broker.host, broker.port))
        say(NETWORK_A.filled(broker=broker.port, relay=relay.port))
        say(NETWORK_B)

        say.chapter(STARTS.filled(window_s=WINDOW_S))
        config = folder / "gateway.toml"
        config.write_text(
            _CONFIG.format(
                gateway=GATEWAY,
                port=relay.port,
                window_s=WINDOW_S,
                rs485=rs485.path,
                ranger=serial.path,
                mount_height_cm=MOUNT_HEIGHT_CM,
            ),
            encoding="utf-8",
        )
        with _daemon(config, say) as process:
            third_s = seconds / 3
            _pass(third_s, process)
            say.chapter(CUT.filled(seconds=third_s))
            relay.cut()
            _pass(third_s, process)
            say(WAIT.filled(count=_waiting(folder / "spool.db")))
            say.chapter(BACK)
            relay.resume()
            _pass(third_s, process)
            say.chapter(STOPS)
            process.send_signal(signal.SIGTERM)
            code = process.wait(STOP_S)
        run, produced = _produced(folder / "spool.db")
        with city.locked() as account:
            account.tell_produced(GATEWAY, run, produced, is_final=True)
        # What was acknowledged may still be on its way from the broker to the city.
        city.wait_for(lambda a: a.report().missing == 0, timeout_s=5.0)
        report = city.report()
    return _close(report, code, say, as_json=as_json)


def _close(report: Report, code: int, say: _Voice, *, as_json: bool) -> int:
    complete = report.missing == 0 and code == 0
    if as_json:
        document = {"schema": "yukimi.demo/1", "complete": complete, "gateway_exit": code}
        print(json.dumps(document | report.to_json(), ensure_ascii=False))
        return 0 if complete else 1
    say.chapter(THE_ACCOUNT)
    for line in report.lines():
        say(line)
    if code:
        say(ENDED.filled(code=code))
    say("")
    say(COMPLETE if complete else INCOMPLETE)
    return 0 if complete else 1


class _Voice:
    """The guide: chapters, remarks, and what the city receives as it arrives."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._chapter = 0
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        if not self._quiet:
            with self._lock:
                print(f"   {said(text)}" if text else "", flush=True)

    def chapter(self, title: str) -> None:
        self._chapter += 1
        if not self._quiet:
            with self._lock:
                print(f"\n{self._chapter}. {said(title)}", flush=True)

    def received(self, topic: str, payload: bytes, records: list[dict[str, Any]]) -> None:
        place = topic.partition(f"/{GATEWAY}/")[2]
        lane = place.partition("/")[0]
        if place == "status" and payload:
            status = json.loads(payload)
            sensors = f", {len(status['sensors'])} sensors" if "sensors" in status else ""
            why = f" ({status.get('reason', 'last will')})" if status["state"] == "offline" else ""
            self(f"{'status':<8} {status['state']}{sensors}{why}")
        for record in records:
            which = f"{record['stream']:<8} #{record['seq']:<3}"
            self(f"{lane:<8} {which} {_time(record)} {_what(record)}")

    def overheard(self, line: str) -> None:
        """Pass on what the gateway logs about its connection."""
        fields = dict(part.partition("=")[::2] for part in shlex.split(line) if "=" in part)
        if fields.get("part") == "uplink":
            reason = f": {fields['reason']}" if "reason" in fields else ""
            self(f"gateway  {fields.get('event', '')}{reason}")


def _time(record: dict[str, Any]) -> str:
    at = record.get("end") or record.get("time")
    return str(at)[11:19] if at else "--:--:--"


def _what(record: dict[str, Any]) -> str:
    if "gap" in record:
        return _gap(record)
    if "alert" in record:
        return f"{record['state']}: {record['text'][language()]}"
    return _values(record)


def _gap(record: dict[str, Any]) -> str:
    return f"gap: {record['first']} to {record['seq']} lost, {record['gap']}"


def _values(record: dict[str, Any]) -> str:
    values = record["values"]
    if values.get("event") == "start":
        return f"start of version {values['version']}"
    flag = record["quality"]["flag"]
    if flag == "missing":
        return f"missing ({' '.join(record['quality'].get('reasons', []))})"
    if "epsilon" in values:
        ways = [f"{way} {values[way]['count']}" for way in ("towards", "away") if values.get(way)]
        return f"{', '.join(ways)} people (noise: 95 % within {values['ci95']})"
    shown = []
    for name in ("surface_temperature_c", "depth_cm", "condition", "friction"):
        value = values.get(name)
        if isinstance(value, dict):
            shown.append(f"{name} {value['mode'] if 'mode' in value else value['mean']}")
    return f"{', '.join(shown)} ({record['quality']['n']} readings, {flag})"


@contextmanager
def _daemon(config: Path, say: _Voice) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=config.parent)
    errors: IO[str] = process.stderr  # type: ignore[assignment]  # PIPE was asked for

    def listen() -> None:
        for line in errors:
            say.overheard(line)

    listener = threading.Thread(target=listen, name="gateway's log", daemon=True)
    listener.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        listener.join(2.0)
        errors.close()


def _pass(duration_s: float, process: subprocess.Popen[str]) -> None:
    """Let time pass, unless the gateway ends."""
    until_s = time.monotonic() + duration_s
    while process.poll() is None and time.monotonic() < until_s:
        time.sleep(0.1)


def _waiting(spool: Path) -> int:
    with glance(spool) as database:
        return int(database.execute("SELECT coalesce(sum(n), 0) FROM record").fetchone()[0])


def _produced(spool: Path) -> tuple[str, dict[str, int]]:
    """Return the last run and the highest number of each of its streams."""
    with glance(spool) as database:
        run_id, run = database.execute("SELECT id, run FROM run ORDER BY id DESC").fetchone()
        rows = database.execute("SELECT stream, seq FROM produced WHERE run = ?", (run_id,))
        return run, dict(rows.fetchall())


def _tty(pty: Pty) -> str:
    return str(Path(pty.path).resolve())


def now_s() -> float:
    """Return the devices' time: seconds since boot."""
    return boot_ns() / 1e9
