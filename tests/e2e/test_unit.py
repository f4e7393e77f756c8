"""The very unit, booted: it comes up, comes back, and may do nothing else.

Limits are shortened by drop-ins; what hangs is planted from outside, in a module that Python
imports before the daemon. Everything else is what a gateway in a cabinet has.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.broker import Mosquitto
from tests.e2e import machine as machines
from tests.e2e.conftest import Site, need_mosquitto
from tests.e2e.machine import UNIT, Machine

IN_PLACE = "/etc/systemd/system/yukimi.service"
DIALOUT = 20  # of Debian, fixed
KILLS = int(os.environ.get("YUKIMI_KILLS", "20"))  # `make kills` wants more

# Blocks threads in their first life for ever, and lets their next step be due at once: nobody need
# wait for a minute. The service's folder in memory outlives it, and tells the second life so.
HANG = """
import sys
if "run" in sys.orig_argv:
    import threading
    from pathlib import Path
    from agent import collector, control, pipeline, supervisor, uplink
    told = Path("/run/yukimi/hung")
    is_first = not told.exists()
    def hang_in(of, name, whose=None):
        honest = getattr(of, name)
        def hang(self, *arguments):
            if not is_first or getattr(self, "name", whose) != whose:
                return honest(self, *arguments)
            told.touch()
            if hasattr(self, "pulse"):
                self.pulse.due_s = 0.0
            threading.Event().wait()
        setattr(of, name, hang)
"""
METRICS = "/run/yukimi/yukimi.prom"
BUS = "/dev/ttyUSB0"
ALL_BUT_MAIN = f"""
    hang_in(pipeline.Pipeline, "_tend_clock")
    hang_in(uplink.Uplink, "_pump")
    hang_in(collector.Collector, "_poll", "{BUS}")
    hang_in(control.Control, "_step")
"""
THREADS = ("pipeline", "uplink", f'"bus {BUS}"', "control")
MAIN = """
    hang_in(supervisor.Supervisor, "look")
"""
IMPATIENT = "from agent import comeback; comeback.FREE = 1000\n"


class Service:
    """The unit in its machine, as a daemon among the site's."""

    has_died = False  # it is systemd's to start again

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    @property
    def log(self) -> list[str]:
        return self.machine.journal().splitlines(keepends=True)

    def start(self) -> None:
        self.machine.run("systemctl", "start", "yukimi")

    def stop(self) -> int:
        self.machine.run("systemctl", "stop", "yukimi")
        return int(self.machine.show("ExecMainStatus")["ExecMainStatus"])

    def kill(self) -> None:
        self.machine.run("systemctl", "kill", "--signal=KILL", "yukimi")

    def close(self) -> None:
        """Do nothing: it ends with its machine."""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Machine]]:
    """A site whose gateway is a machine of its own; one boot for all tests here."""
    machines.need()
    need_mosquitto()
    folder = tmp_path_factory.mktemp("machine")
    with Site(folder, Mosquitto()) as site:
        site.listen()
        adapter = os.path.realpath(site.post.path)
        os.chown(adapter, 0, DIALOUT)
        Path(adapter).chmod(0o660)
        machine = Machine(folder, binds={adapter: BUS, folder / "state": "/var/lib/yukimi"})
        site.spool = machine.state / "spool.db"
        text = site.configure(username="box", password_file="broker-password").read_text(
            encoding="utf-8"
        )
        for outside, inside in (
            ("[gateway]", f'[gateway]\nmetrics_file = "{METRICS}"'),
            (str(site.spool), "/var/lib/yukimi/spool.db"),
            (site.post.path, BUS),
            ('"control.sock"', '"/run/yukimi/control.sock"'),
        ):
            assert outside in text
            text = text.replace(outside, inside)
        (machine.etc / "gateway.toml").write_text(text, encoding="utf-8")
        with machine:
            # What the configuration names is in systemd's store only.
            machine.run("sh", "-c", "umask 077; echo secret > /etc/credstore/broker-password")
            site.adopt(Service(machine))
            yield site, machine


@pytest.fixture
def unit(booted: tuple[Site, Machine]) -> Iterator[tuple[Site, Machine]]:
    """The same, with nothing left of an earlier test but its records."""
    site, machine = booted
    yield site, machine
    machine.run("systemctl", "stop", "yukimi")
    machine.run("systemctl", "reset-failed", "yukimi", check=False)
    for file in machine.dropins.glob("*.conf"):
        if file.name != "checkout.conf":
            file.unlink()
    for file in machine.patch.iterdir():
        file.unlink()
    machine.run("systemctl", "daemon-reload")
    machine.run("journalctl", "--rotate")
    machine.run("journalctl", "--vacuum-time=1s")


def plant(machine: Machine, code: str) -> None:
    """Let Python run this before the daemon."""
    (machine.patch / "sitecustomize.py").write_text(code, encoding="utf-8")


def test_it_starts_says_that_it_is_ready_and_delivers(unit: tuple[Site, Machine]) -> None:
    site, machine = unit
    site.daemon.start()  # returns when it has said READY=1
    shown = machine.show("ActiveState", "SubState", "NRestarts", "StatusErrno")
    assert (shown["ActiveState"], shown["SubState"], shown["NRestarts"]) == (
        "active",
        "running",
        "0",
    )
    site.wait_records("snow-2", 2)
    assert machine.show("User")["User"] == "yukimi"
    exported = machine.run("setpriv", "--reuid=nobody", "cat", METRICS).stdout
    assert "# TYPE yukimi_uplink_connected gauge" in exported.splitlines()
    before = site.spooled().run
    machine.run("systemctl", "reload", "yukimi")
    site.wait_spooled(lambda now: bool(now.produced) and now.run != before, "a reload")
    assert machine.show("NRestarts")["NRestarts"] == "0"
    assert site.stop() == 0
    assert site.retained_status()["reason"] == "stopped"


def test_who_hangs_is_named_and_the_watchdog_starts_all_again(unit: tuple[Site, Machine]) -> None:
    site, machine = unit
    machine.drop_in("short", ["WatchdogSec=3", "RestartSec=100ms"])
    plant(machine, HANG + ALL_BUT_MAIN)
    site.daemon.start()
    machine.wait(lambda: machine.show("NRestarts")["NRestarts"] == "1", "a restart")
    named, killed, _ = machine.journal().partition("Watchdog timeout")
    assert killed
    for thread in THREADS:
        (line,) = (line for line in named.splitlines() if f"thread={thread} " in line)
        assert "a thread hangs; the watchdog is not fed" in line
        assert "sitecustomize.py" in line  # where it hangs
    site.wait_records("snow-2", 2)  # and its next life measures


def test_a_main_thread_that_hangs_is_seen_in_what_the_watchdog_leaves(
    unit: tuple[Site, Machine],
) -> None:
    site, machine = unit
    machine.drop_in("short", ["WatchdogSec=3", "RestartSec=100ms"])
    plant(machine, HANG + MAIN)
    site.daemon.start()
    machine.wait(lambda: machine.show("NRestarts")["NRestarts"] == "1", "a restart")
    journal = machine.journal()
    assert "a thread hangs" not in journal  # who would have said so hung itself
    told = journal[journal.index("Fatal Python error: Aborted") :]
    assert "sitecustomize.py" in told
    assert "in watch" in told


def test_with_the_same_limits_nobody_is_named_who_only_waits(unit: tuple[Site, Machine]) -> None:
    site, machine = unit
    machine.drop_in("short", ["WatchdogSec=3", "RestartSec=100ms"])
    site.daemon.start()
    site.wait_records("snow-2", 6)  # windows of a second: twice the watchdog's patience
    assert machine.show("NRestarts")["NRestarts"] == "0"
    assert "a thread hangs" not in machine.journal()


@pytest.mark.slow
def test_killed_again_and_again_it_comes_back_and_the_account_closes(
    unit: tuple[Site, Machine],
) -> None:
    site, machine = unit
    machine.drop_in("short", ["RestartSec=100ms"])
    plant(machine, IMPATIENT)
    dice = random.Random()
    site.daemon.start()
    site.wait_new_run()
    for _ in range(KILLS):
        before = site.spooled().run
        time.sleep(dice.uniform(0.0, 0.7))  # the moment is what is tried here
        site.daemon.kill()
        site.wait_spooled(
            lambda now, old=before: bool(now.produced) and now.run != old, "a new run"
        )
    assert machine.show("NRestarts")["NRestarts"] == str(KILLS)
    site.wait_records("snow-2", 1)
    assert site.stop() == 0
    # What the killed ones had produced, the next one says.
    last = site.spooled().run
    site.wait_until(lambda: last in site.start_records(), "the start of the last run")
    for start in site.start_records().values():
        if start["previous"] is not None:
            site.produced[start["previous"]["run"]] = start["previous"]["produced"]
    assert len(site.produced) > KILLS
    site.close_account()


def test_who_dies_young_each_time_comes_back_more_slowly(unit: tuple[Site, Machine]) -> None:
    site, machine = unit
    machine.drop_in("short", ["RestartSec=10ms"])
    plant(
        machine,
        "import sys\nif 'run' in sys.orig_argv:\n"
        "    from agent import comeback, daemon\n    comeback.FREE, comeback.CAP_S = 1, 1.0\n"
        "    daemon.Daemon.run = lambda self: sys.exit(1)\n",
    )
    machine.run("systemctl", "start", "yukimi", check=False)
    machine.wait(lambda: "has ended 3 times" in machine.journal(), "a third death")
    journal = machine.journal()
    assert "has ended 1 times" not in journal  # it is free
    assert journal.index("has ended 2 times") < journal.index("has ended 3 times")
    machine.run("systemctl", "stop", "yukimi")
    plant(machine, "")
    site.daemon.start()  # a technician does not wait
    assert machine.journal().count("within a minute of its start") == journal.count(
        "within a minute of its start"
    )


PROBE = """
import json, os, socket
def why(act):
    try:
        act()
    except OSError as exc:
        return exc.strerror
    return "done"
def write(folder):
    with open(folder + "/probe", "w"):
        pass
    os.unlink(folder + "/probe")
def listen(family, kind):
    with socket.socket(family, kind) as sock:
        sock.bind(("0.0.0.0", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
said = {f"write {f}": why(lambda: write(f)) for f in %(folders)r}
def use(device):
    os.close(os.open(device, os.O_RDWR | os.O_NOCTTY))
said |= {f"open {d}": why(lambda: use(d)) for d in %(devices)r}
said["listen"] = why(lambda: listen(socket.AF_INET, socket.SOCK_STREAM))
def say(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        own = socket.inet_aton("127.0.0.1")  # a way that is always there
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        sock.sendto(b"x", (address, 9))
said |= {f"say {a}": why(lambda: say(a)) for a in %(addresses)r}
said["packets"] = why(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
said["netlink"] = why(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
said["others"] = [p for p in os.listdir("/proc") if p.isdigit() and int(p) != os.getpid()]
from pathlib import Path
said["credential"] = Path(os.environ["CREDENTIALS_DIRECTORY"], "broker-password").read_text()
said["cap"] = [l for l in open("/proc/self/status") if l.startswith("CapBnd")][0].split()[1]
print("PROBE", json.dumps(said), flush=True)
"""
FORBIDDEN_FOLDERS = (
    *("/", "/etc/yukimi", "/opt/yukimi", "/usr", "/var/lib", "/run", "/home", "/root"),
    *("/dev", "/dev/shm", "/sys", "/sys/class"),
)
OWN_FOLDERS = ("/var/lib/yukimi", "/run/yukimi", "/tmp")
GROUPS = ("224.0.0.1", "239.255.255.250")
SINGLE = ("127.0.0.1", "127.0.0.9")
# Everybody's by their mode, but none that a gateway reads.
FORBIDDEN_DEVICES = ("/dev/net/tun", "/dev/mapper/control", "/dev/hpet")


def probe(machine: Machine, name: str = "probe") -> dict[str, object]:
    """Let a script do what it can in place of the daemon, under the very unit; return what."""
    script = PROBE % {
        "folders": [*FORBIDDEN_FOLDERS, *OWN_FOLDERS],
        "devices": [BUS, *made(machine)],
        "addresses": [*GROUPS, *SINGLE],
    }
    (machine.patch / "probe.py").write_text(script, encoding="utf-8")
    machine.drop_in(
        "probe",
        [
            *("ExecStart=", "ExecStart=/opt/yukimi/bin/python /opt/patch/probe.py"),
            *("Type=oneshot", "Restart=no", "WatchdogSec=0"),
        ],
    )
    machine.run("systemctl", "start", "yukimi")
    # The newest: another test may have let it run under other walls before.
    line = [each for each in machine.journal().splitlines() if each.startswith("PROBE ")][-1]
    said: dict[str, object] = json.loads(line.removeprefix("PROBE "))
    return said


def is_enforced(machine: Machine) -> bool:
    """Whether this systemd was built with what SocketBindDeny= needs; Debian 12's was not."""
    return "+BPF_FRAMEWORK" in machine.run("systemctl", "--version").stdout


def made(machine: Machine) -> list[str]:
    """Return devices that anybody may open, and that no gateway needs."""
    there = machine.run("ls", *FORBIDDEN_DEVICES, check=False).stdout.split()
    for device in there:
        machine.run("chmod", "666", device)
    return there


def test_it_writes_nowhere_but_at_its_own_and_opens_no_other_device(
    unit: tuple[Site, Machine],
) -> None:
    _, machine = unit
    said = probe(machine)
    for folder in FORBIDDEN_FOLDERS:
        assert said[f"write {folder}"] in ("Read-only file system", "Permission denied"), folder
    for folder in OWN_FOLDERS:
        assert said[f"write {folder}"] == "done"
    # A user namespace of its own, and yet the port of group dialout is its.
    assert said[f"open {BUS}"] == "done"
    others = made(machine)
    assert others
    for device in others:
        assert said[f"open {device}"] == "Operation not permitted", device
    assert {said[f"say {each}"] for each in GROUPS} == {"Operation not permitted"}
    assert {said[f"say {each}"] for each in SINGLE} == {"done"}
    if is_enforced(machine):
        assert said["listen"] == "Operation not permitted"
    assert said["packets"] == said["netlink"] == "Address family not supported by protocol"
    assert said["others"] == []
    assert said["credential"] == "secret\n"
    assert int(str(said["cap"]), 16) == 0


def test_without_the_units_walls_the_same_script_does_it_all(unit: tuple[Site, Machine]) -> None:
    _, machine = unit
    machine.drop_in(
        "open",
        [
            *("User=root", "Group=root", "PrivateUsers=no", "ProtectSystem=no", "ProtectHome=no"),
            *("ReadOnlyPaths=", "DevicePolicy=auto", "DeviceAllow=", "RestrictAddressFamilies="),
            *("CapabilityBoundingSet=~", "ProtectProc=default"),
            *("IPAddressDeny=", "IPAddressAllow=", "SocketBindDeny="),
        ],
    )
    said = probe(machine)
    assert {said[f"write {folder}"] for folder in ("/usr", "/var/lib", "/run", "/dev/shm")} == {
        "done"
    }
    assert {said[f"open {device}"] for device in made(machine)} == {"done"}
    assert said["netlink"] == "done"
    assert {said[f"say {each}"] for each in GROUPS} == {"done"}
    assert said["listen"] == "done"
    assert said["others"]


LISTEN = """
import socket, time
with socket.create_server(("127.0.0.1", {port})) as server:
    time.sleep(60)
"""


def test_with_the_drop_in_of_its_configuration_it_talks_to_its_broker_and_nobody_else(
    unit: tuple[Site, Machine],
) -> None:
    site, machine = unit
    listening = [
        *("ExecStart=", "ExecStart=/opt/yukimi/bin/python /opt/patch/listen.py"),
        *("Type=exec", "Restart=no", "WatchdogSec=0", "SocketBindDeny="),
    ]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (machine.patch / "listen.py").write_text(LISTEN.format(port=port), encoding="utf-8")
    machine.drop_in("listen", listening)
    site.daemon.start()
    machine.wait(lambda: answers(port), "somebody who listens")
    machine.run("systemctl", "stop", "yukimi")

    yukimi = ("env", *machines.ENVIRONMENT, "/opt/yukimi/bin/yukimi")
    said = machine.run(*yukimi, "config", "sandbox", "--config", "/etc/yukimi/gateway.toml").stdout
    assert "IPAddressAllow=127.0.0.1" in said.splitlines()
    machine.drop_in("sandbox", said.partition("[Service]")[2].splitlines())
    site.daemon.start()
    machine.wait(lambda: answers(port, "127.0.0.1"), "somebody who listens to the broker")
    assert not answers(port)
    machine.run("systemctl", "stop", "yukimi")
    (machine.dropins / "listen.conf").unlink()
    machine.run("systemctl", "daemon-reload")
    site.daemon.start()
    site.wait_records("snow-2", 2)
    security = ("systemd-analyze", "security", "--offline=true", "--threshold=16", IN_PLACE)
    assert machine.run(*security, check=False).returncode == 0


def answers(port: int, stranger: str = "127.0.0.9") -> bool:
    """Whether the service takes a connection of somebody with another address."""
    address = ("127.0.0.1", port)
    try:
        socket.create_connection(address, timeout=2.0, source_address=(stranger, 0)).close()
    except OSError:
        return False
    return True


def test_it_runs_on_a_root_that_nobody_can_write(unit: tuple[Site, Machine]) -> None:
    site, machine = unit
    machine.run("mount", "-o", "remount,bind,ro", "/")
    assert machine.run("touch", "/var/log/probe", check=False).returncode != 0
    try:
        site.daemon.start()
        site.wait_records("snow-2", 2)
        assert site.stop() == 0
    finally:
        machine.run("mount", "-o", "remount,bind,rw", "/")


def test_systemd_has_nothing_to_say_against_the_unit(unit: tuple[Site, Machine]) -> None:
    _, machine = unit
    said = machine.run("systemd-analyze", "verify", IN_PLACE)
    assert (said.stdout, said.stderr) == ("", "")
    machine.drop_in("misspelt", ["RestartSteps=5"])  # of a later systemd
    said = machine.run("systemd-analyze", "verify", IN_PLACE, check=False)
    assert "RestartSteps" in said.stderr


def test_udev_understands_the_rules(unit: tuple[Site, Machine]) -> None:
    _, machine = unit
    said = machine.run("udevadm", "test", "/sys/class/tty/ttyS0", check=False)
    assert "60-yukimi-devices.rules" in said.stderr
    assert "60-yukimi-led.rules" in said.stderr
    wrong = [line for line in said.stderr.splitlines() if ".rules:" in line and "yukimi" in line]
    assert [line for line in wrong if "GROUP" not in line and "MODE" not in line] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_its_exposure_is_as_low_as_the_hardware_allows(tmp_path: Path) -> None:
    assert exposure_is_at_most(1.6, UNIT)
    lines = UNIT.read_text(encoding="utf-8").splitlines(keepends=True)
    for wall in (
        *("CapabilityBoundingSet", "RestrictNamespaces", "PrivateUsers", "DevicePolicy"),
        "IPAddressDeny",
    ):
        lower = tmp_path / "yukimi.service"
        lower.write_text("".join(line for line in lines if not line.startswith(wall)))
        assert not exposure_is_at_most(1.6, lower), wall


def exposure_is_at_most(most: float, unit: Path) -> bool:
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={round(most * 10)}"]
    done = subprocess.run([*command, str(unit)], capture_output=True, check=False)
    return done.returncode == 0
