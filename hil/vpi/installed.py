"""One virtual Pi with the Debian package on it, and what happens to it in the field.

The machine never had a gateway. The package that is shipped is installed in it without a network,
`yukimi init` finds its sensors, and the unit sends records to a broker outside. Then each thread
hangs in turn, the daemon is killed again and again, and it is replaced by another version and back
while the machine is busy. At the end the account must close.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterable, Set
from typing import Any

from ..buses import I2cDevice
from ..devices.bme280 import Bme280Device
from ..devices.maxbotix import MaxBotixDevice
from .image import Image
from .machine import WAIT_S, VirtualPi
from .moments import Cut
from .packages import GOOD
from .qmp import MachineError
from .rootfs import GUEST
from .site import CONFIG, STATE, Site, is_good
from .steps import must

AIR_C, DEPTH_CM, MOUNT_CM = -4.0, 67.0, 350.0
UART = "/dev/ttyS1"
BUSES = (UART, "/dev/i2c-0")
THREADS = (*(f"bus {path}" for path in BUSES), "pipeline", "uplink", "control", "main")
STREAMS = ("snow-1", "weather-1")  # as `yukimi init` names what it finds
KILLS = 100
WITHIN_S = 6.0  # of a life's begin it is killed; every other one only when it has delivered
WATCHDOG_S = 30  # as shipped it takes two minutes
GRACE_S = 30.0  # for systemd, on a machine that has little time
SLOW_S = 2.0  # looking costs the machine something too
UPDATES_S = 4 * WAIT_S  # one is many things, each of which may take its time
PYTHONS = "/etc/python3.11/sitecustomize.py"
PLANT = "/run/vpi-plant.json"
DROP_IN = "/run/systemd/system/yukimi.service.d/bench.conf"
GATE = "/var/lib/yukimi-update"
APT = "DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends"
LOAD = "dd if=/dev/urandom of=/var/tmp/load bs=64k count=64 conv=notrunc,fsync status=none"


class Installed:
    """One machine in the field, and what its broker has heard."""

    def __init__(self, pi: VirtualPi, site: Site, say: Callable[[str], None]) -> None:
        self.pi = pi
        self.site = site
        self.say = say
        self.evidence: dict[str, Any] = {}
        self.old = ""  # the version that is shipped
        self.config = ""  # the hash of the configuration file
        self.ready: Cut | None = None  # installed, delivering, and switched off in order

    # The gateway

    def install(self) -> None:
        """Install it as docs/install.md says, without a network; wait for its records."""
        self.pi.boot()
        must(self.pi.run("test -e /opt/yukimi", check=False).code != 0, "it is there already")
        self.pi.link(up=False)
        self.pi.run(f"{APT} /packages/old.deb")
        self.pi.link(up=True)
        self.old = self.version().removeprefix("ii ")
        init = f"yukimi init --yes --id {self.site.gateway} --broker {self.site.broker_url}"
        self.pi.run(f"{init} --window 1 --set snow-1.mount_height_cm={MOUNT_CM:g} --json")
        # Nobody waits here for what spares a city's broker.
        uplink = r"[uplink]\noffset_s = 0.0\ndrain_s = 30\nbacklog_bytes_per_s = 1000000"
        self.pi.run(rf"sed -i 's/^\[uplink\]/{uplink}/' {CONFIG}")
        owner = r'[gateway]\nowner = "before"'
        self.pi.run(rf"sed -i 's/^\[gateway\]/{owner}/' {CONFIG}")
        self.pi.run("systemctl -q enable --now yukimi")
        self.wait_delivers()
        self.evidence["install"] = {
            "version": self.old,
            "sensors": [stream for stream in STREAMS if self.site.records(stream)],
        }
        self.config = self.config_hash()
        # From now on Python can be told to misbehave; it does nothing unless it is asked.
        self.pi.write(PYTHONS, (GUEST / "plant.py").read_text(encoding="utf-8"))
        self.closes()
        self.pi.shut_down()
        self.ready = Cut("installed", self.pi.disk.moment(), self.site.heard_all())

    def returns(self) -> None:
        """Have the machine as it was when it was installed, delivering."""
        if self.ready is None:
            raise MachineError("it was never installed")
        self.pi.cut()
        self.pi.disk.return_to(self.ready.disk)
        self.site.return_to(self.ready.heard)
        self.pi.boot()
        self.wait_delivers()

    def plant(self, *, limits: Iterable[str] = (), **asked: Any) -> None:
        """Plant this in Python's next lives, and limits of the unit."""
        self.pi.write(PLANT, json.dumps(asked))
        self.pi.write(DROP_IN, "\n".join(["[Service]", *limits, ""]))
        self.pi.run("systemctl daemon-reload")

    def wait_delivers(self, *, beyond: Set[str] = frozenset()) -> None:
        """Wait for a good record of each sensor from a life that is not one of `beyond`."""
        begun = len(self.site.heard)

        def is_so() -> bool:
            came = {
                record["stream"]
                for message in list(self.site.heard)[begun:]
                if message.run not in beyond
                for record in message.records
                if record["stream"] in STREAMS and "gap" not in record and is_good(record)
            }
            return came == set(STREAMS)

        self.site.wait_until(is_so, f"records of {STREAMS}")

    def restart(self) -> None:
        """Let another life begin; return when it delivers."""
        before = self.site.runs()
        self.pi.run("systemctl reset-failed yukimi; systemctl restart yukimi")
        self.wait_delivers(beyond=before)

    def version(self) -> str:
        """Return dpkg's status and version of the package."""
        return self.pi.run("dpkg-query -W -f '${db:Status-Abbrev}${Version}' yukimi").out.strip()

    def config_hash(self) -> str:
        """Return what tells one configuration file from another."""
        return self.pi.run(f"sha256sum < {CONFIG}").out.split()[0]

    def closes(self) -> str:
        """Stop it; the account must close, and its spool be whole. Return the account's sum."""
        report = self.site.close_account()
        lines = "\n".join(report.lines())
        must(report.keeps_the_contract and not report.lost, lines)
        verified = self.pi.run("yukimi spool verify", check=False)
        must(verified.code == 0, f"the spool: {verified.out}{verified.err}")
        damage = self.pi.run(
            f"ls {STATE} | grep damaged; dmesg | grep -i ext4-fs.error", check=False
        )
        must(not damage.out, damage.out)
        return report.lines()[-1]

    # What happens to it

    def hangs(self, threads: Iterable[str] = THREADS) -> None:
        """Let one thread after the other hang, each in a life of its own."""
        threads = list(threads)
        since = self._now()
        before = self.site.runs()
        self.plant(limits=[f"WatchdogSec={WATCHDOG_S}"], hang=threads, tell=[])
        self.pi.run("systemctl restart yukimi", check=False)
        count = len(threads)
        restarts = f"[ $(systemctl show -P NRestarts yukimi) -ge {count} ]"
        self.pi.wait(restarts, "it hangs on", poll_s=SLOW_S, within_s=count * WAIT_S)
        self.wait_delivers(beyond=before)
        lives = self._journal(since).split("Watchdog timeout")
        must(len(lives) == count + 1, f"the watchdog bit {len(lives) - 1} times")
        told = {}
        for thread, said, bite in zip(threads, lives, lives[1:], strict=False):
            told[thread] = self._named(thread, said, bite)
        self.evidence["hangs"] = told
        self.plant()
        self.pi.run("rm -f /run/yukimi/hung-*")

    def _named(self, thread: str, said: str, after: str) -> float:
        """Return after how many seconds the watchdog bit; its thread must be the one named."""
        bitten_s = float(said.splitlines()[-1].split("[")[1].split("]")[0])
        names = re.findall(r'event="a thread hangs.*? thread="?([^"=]+)"? since_s', said)
        if thread == "main":  # who would name it hangs itself; Python shows where
            must(names == [] and "in watch" in after, f"main hung: {said}{after}")
            (began_s, *_) = re.findall(r"\[ *([\d.]+)\] [^\n]*Started yukimi.service", said)[-1:]
        else:
            must(names == [thread], f"{thread} hung, and {names} is named:\n{said}")
            (began_s, *_) = re.findall(r"\[ *([\d.]+)\] [^\n]*a thread hangs", said)
        took_s = round(bitten_s - float(began_s), 1)
        must(took_s <= WATCHDOG_S + GRACE_S, f"{thread}: the watchdog took {took_s} s")
        return took_s

    def kills(self, count: int = KILLS, seed: int = 0) -> None:
        """Kill it so often, half of the times while it starts; it must come back each time."""
        dice = random.Random(seed)
        self.plant(limits=["RestartSec=100ms"], impatient=True, tell=[])
        self.restart()
        restarts = int(self.pi.show("NRestarts")["NRestarts"])
        before = known = self.site.runs()
        for number in range(count):
            if number % 2 == 1:
                self.wait_delivers(beyond=known)
            time.sleep(dice.uniform(0.0, WITHIN_S))  # the moment is what is tried here
            known = self.site.runs()
            self._kill()
            if number % 10 == 9:
                self.say(f"killed {number + 1} times")
        self.wait_delivers(beyond=known)
        came_back = int(self.pi.show("NRestarts")["NRestarts"]) - restarts
        must(came_back == count, f"killed {count} times, it came back {came_back} times")
        lives = len(self.site.runs() - before)
        self.evidence["kills"] = {"kills": count, "lives that delivered": lives}
        self.plant()

    def _kill(self) -> None:
        """Kill the daemon, and return when it has another process."""
        self.pi.run(
            "before=$(systemctl show -P MainPID yukimi); kill -9 $before; now=$before; "
            "until [ $now -ne $before ] && [ $now -ne 0 ]; do "
            "sleep 0.3; now=$(systemctl show -P MainPID yukimi); done"
        )

    def versions(self) -> None:
        """Replace it by a newer version and back, on a machine that has much else to do."""
        self.plant()
        self.trial(240, 3)
        before = self.site.runs()
        self.wait_delivers()
        self.pi.run(f"systemd-run -q --unit=load sh -c 'while :; do {LOAD}; done'")
        self._replace("good", GOOD, "")
        self._replace("old", self.old, "--allow-downgrades ")
        self.pi.run("systemctl stop load; rm /var/tmp/load")
        must(self.config_hash() == self.config, "the configuration is another")
        self.evidence["versions"] = {"lives": len(self.site.runs() - before)}

    def _replace(self, package: str, version: str, option: str) -> None:
        self.pi.run(f"rm -f {GATE}/outcome.json; {APT} {option}/packages/{package}.deb")
        decided = f"grep -q 'outcome.: .kept' {GATE}/outcome.json"
        self.pi.wait(decided, "it is never decided", poll_s=SLOW_S, within_s=UPDATES_S)
        must(self.version() == f"ii {version}", f"{version}: {self.version()}")
        self.wait_delivers()
        self.say(f"{version} runs")

    def trial(self, within_s: float, settle_s: float) -> None:
        """Say how long a new version has."""
        text = f"UPDATE_TRIAL_S={within_s}\nUPDATE_SETTLE_S={settle_s}\n"
        self.pi.write("/etc/default/yukimi", text)

    def _now(self) -> str:
        return self.pi.run("cut -d' ' -f1 /proc/uptime").out.strip()

    def _journal(self, since: str) -> str:
        """Return the service's log of this boot from a time on, with the kernel's seconds."""
        said = self.pi.run("journalctl -u yukimi -b -o short-monotonic --no-pager").out
        lines = (line for line in said.splitlines() if line.startswith("["))
        return "\n".join(line for line in lines if float(line[1:].split("]")[0]) >= float(since))


def machine(image: Image) -> VirtualPi:
    """Put the machine together: a snow gauge on a UART, a weather sensor on I2C."""
    weather: dict[int, I2cDevice] = {0x76: Bme280Device(temperature_c=lambda _: AIR_C)}
    gauge = MaxBotixDevice(lambda _: DEPTH_CM, mount_height_cm=MOUNT_CM)
    return VirtualPi(image, i2c=weather, uarts=[[gauge]])
