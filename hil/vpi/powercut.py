"""Cut a virtual Pi's power at random moments, and hold what it had committed against what arrives.

The whole machine loses its power, not a filesystem: what its kernel had not flushed is gone from
the disk, or some of it is, in no order. It boots again from what is left, as often as asked; then
it may send everything. Each record that was told as committed must arrive, unchanged, and the
account must close. `liar` is the control: on a disk that only says that it flushed, records must be
lost.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..buses import I2cDevice
from ..devices.bme280 import Bme280Device
from ..devices.ina219 import Ina219Device
from ..devices.maxbotix import MaxBotixDevice
from ..ledger import Key, digest
from .image import Image
from .machine import WAIT_S, VirtualPi
from .qmp import MachineError
from .site import CONFIG, PYTHON, STATE, Site

SHARE_UNREACHABLE = 0.5  # of the lives in which the network's cable is out
SURVIVING = (0.0, 0.5)  # chances of what was not flushed
COMMITS = 4  # at most, of a life before the cut may come

_CONFIG = """\
[gateway]
id = "virtual-pi"
[uplink]
brokers = ["{broker}"]
offset_s = 0.0
drain_s = 30
backlog_bytes_per_s = 1000000
[[sensors]]
id = "air-1"
driver = "bme280"
bus = "/dev/i2c-0"
window_s = 1
options = {{ address = 0x76 }}
[[sensors]]
id = "supply-1"
driver = "ina219"
bus = "/dev/i2c-0"
window_s = 1
options = {{ address = 0x40 }}
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS1"
window_s = 1
options = {{ mount_height_cm = 350.0 }}
"""
_UNIT = f"""\
[Service]
ExecStart=
ExecStart={PYTHON} -m hil.vpi.witness run --config {CONFIG}
# What the shipped unit allows, and the port to the bench.
DevicePolicy=auto
DeviceAllow=
"""
_DROP_IN = "/etc/systemd/system/yukimi.service.d/witness.conf"


@dataclass(slots=True)
class Account:
    """What all cuts came to."""

    liar: bool
    cuts: int = 0
    seconds: float = 0.0
    cycles_s: list[float] = field(default_factory=list)  # from power to power
    committed: dict[Key, str] = field(default_factory=dict)  # as told
    delivered: dict[Key, str] = field(default_factory=dict)
    blocks_lost: int = 0  # of the disk's cache
    findings: list[str] = field(default_factory=list)

    @property
    def lost(self) -> list[Key]:
        """What was promised, and never came."""
        return sorted(self.committed.keys() - self.delivered.keys())

    @property
    def holds(self) -> bool:
        """Whether the promise was kept; or, by a liar, broken as it must be."""
        return bool(self.lost) if self.liar else not (self.lost or self.findings)

    def json(self) -> dict[str, object]:
        """Return the figures."""
        return {
            "schema": "yukimi.vpi-powercut/1",
            "liar": self.liar,
            "holds": self.holds,
            "cuts": self.cuts,
            "seconds": round(self.seconds, 1),
            "cycles_s": [round(each, 1) for each in self.cycles_s],
            "committed": len(self.committed),
            "delivered": len(self.delivered),
            "blocks_lost": self.blocks_lost,
            "lost": len(self.lost),
            "findings": self.findings,
        }


class Ear:
    """Hears what the guest tells on its second port, through all its lives."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._changed = threading.Condition()
        self._commits = 0
        self._thread: threading.Thread | None = None

    def listen(self, path: Path) -> None:
        """Begin a life."""
        if (
            self._thread is not None
        ):  # the power is off: what was said before it is heard to its end
            self._thread.join()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.connect(str(path))
        self._thread = threading.Thread(target=self._hear, args=(line,), daemon=True)
        self._thread.start()

    def wait_commits(self, count: int) -> None:
        """Wait until so many commits more are told. Raises MachineError."""
        with self._changed:
            wanted = self._commits + count
            if not self._changed.wait_for(lambda: self._commits >= wanted, WAIT_S):
                raise MachineError(f"{self._commits} commits were told, not {wanted}")

    def _hear(self, line: socket.socket) -> None:
        with line, line.makefile("rb") as lines, suppress(OSError):
            for text in lines:
                if not text.endswith(b"\n"):  # the power went in the middle of a word
                    return
                run, told = json.loads(text)
                with self._changed:
                    for stream, seq, body in told:
                        self._account.committed[run, stream, seq] = body
                    self._commits += 1
                    self._changed.notify_all()


def cut_power(
    image: Image, cuts: int, say: Callable[[str], None], *, liar: bool = False, seed: int = 0
) -> Account:
    """Cut the power so many times; return the account. Raises MachineError."""
    account = Account(liar)
    dice = random.Random(seed)
    began_s = time.monotonic()
    i2c: dict[int, I2cDevice] = {0x76: Bme280Device(), 0x40: Ina219Device()}
    gauge = MaxBotixDevice(lambda _: 67.0, mount_height_cm=350.0)
    with VirtualPi(image, i2c=i2c, uarts=[[gauge]], seed=seed) as pi, Site(pi) as site:
        ear = Ear(account)
        pi.start()
        ear.listen(pi.witness_socket)
        pi.write(_DROP_IN, _UNIT)
        site.install(_CONFIG.format(broker=site.broker_url))
        pi.disk.liar = liar  # from now on: what was installed is on the disk
        for _ in range(cuts):
            cycle_s = time.monotonic()
            pi.link(up=not liar and dice.random() >= SHARE_UNREACHABLE)
            ear.wait_commits(dice.randint(1, COMMITS))
            time.sleep(dice.uniform(0.0, 1.0))
            account.blocks_lost += pi.cut(0.0 if liar else dice.choice(SURVIVING))
            account.cuts += 1
            pi.start()
            ear.listen(pi.witness_socket)
            account.cycles_s.append(time.monotonic() - cycle_s)
            say(f"cut {account.cuts}: {len(account.committed)} records committed")
        _close(pi, site, ear, account)
    account.seconds = time.monotonic() - began_s
    return account


def _close(pi: VirtualPi, site: Site, ear: Ear, account: Account) -> None:
    """Let the last life send everything, and hold it against what was told."""
    ear.wait_commits(1)
    _wait_all_delivered(site, account)
    report = site.close_account()
    _enter(site, account)
    if not report.keeps_the_contract or report.lost:
        account.findings += report.lines()
    account.findings += [f"{key}: lost" for key in account.lost]
    account.findings += [
        f"{key}: delivered with another body than was committed"
        for key, body in account.delivered.items()
        if account.committed.get(key, body) != body
    ]
    damage = pi.run(f"ls {STATE} | grep damaged; dmesg | grep -i 'ext4-fs error'", check=False).out
    if damage:
        account.findings.append(damage)
    pi.shut_down()


def _wait_all_delivered(site: Site, account: Account) -> None:
    """Wait until the city has what was committed; on a liar's disk that never happens."""
    if account.liar:
        return

    def is_all_there() -> bool:
        _enter(site, account)
        return not account.lost

    with suppress(MachineError):  # what is lost is told by the account
        site.wait_until(is_all_there, "what was committed")


def _enter(site: Site, account: Account) -> None:
    for message in list(site.heard):
        for record in message.records:
            if "gap" not in record:
                body = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
                account.delivered[message.run, record["stream"], record["seq"]] = digest(body)
