"""What the checks may look at: one gateway's files, devices, sockets, programs and running daemon.

Everything that a check sees of the machine goes through here, so that the bench can show it
another one: another root for /proc, /sys, /dev, /boot, /etc, another clock, another bus. What
several checks need is looked at once. Nothing here changes anything on the machine.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from config.text import Text

if TYPE_CHECKING:
    from agent.clock import Look
    from agent.plan import Plan
    from agent.scan import Machine
    from config.load import Problem

T = TypeVar("T")

SERVICE = "yukimi.service"
PROGRAM_S = 4.0
UNIT_FACTS = (
    "LoadState,ActiveState,SubState,UnitFileState,NRestarts,Result,ExecMainStatus,MainPID,User,"
    "SupplementaryGroups,MemorySwapMax"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """How long anything may take, in seconds."""

    total_s: float = 14.0  # for everything; the rest of a quarter minute is for starting
    check_s: float = 12.0
    name_s: float = 4.0  # to look up a broker's name
    connect_s: float = 3.0
    answer_s: float = 2.5  # to a greeting
    listen_s: float = 2.5  # to one sensor
    bus_s: float = 6.0  # for all sensors of one bus
    search_s: float = 4.5  # for who does not answer, at other speeds and addresses


class SlowProgramError(Exception):
    """A program is there, and did not answer in time: on a machine that has too much to do."""

    def __init__(self, name: str, within_s: float) -> None:
        self.text = Text(
            f"{name} did not answer within {within_s:g} s",
            f"{name} が{within_s:g}秒以内に応答しません",
        )
        super().__init__(self.text)


def _run_program(command: Sequence[str]) -> str | None:
    """Return what a program printed, None where it is not there. Raises SlowProgramError."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROGRAM_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise SlowProgramError(command[0], PROGRAM_S) from exc
    except OSError:
        return None
    return done.stdout


def way_to(address: str) -> OSError | None:
    """Return why the kernel knows no way to an address; sends nothing."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
    except OSError as exc:
        return exc
    return None


def _look() -> Look:
    from agent import kernel

    return kernel.look()


def _audit(config_file: Path) -> str:
    from agent.privacy.inspection import inspect

    return inspect(config_file).broken


@dataclass
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: bool = False
    value: Any = None
    raised: Exception | None = None


@dataclass
class Site:
    """One gateway, as far as one can see it from inside."""

    config_file: Path
    roots: Mapping[str, Path] = field(default_factory=dict)  # "/sys" -> where it is instead
    budget: Budget = Budget()
    run_program: Callable[[Sequence[str]], str | None] = _run_program
    look: Callable[[], Look] = _look
    resolve: Callable[..., Any] = socket.getaddrinfo
    way_to: Callable[[str], OSError | None] = way_to
    # The running daemon's own words, as `yukimi status --json` has them; raises NotAnsweredError.
    ask_daemon: Callable[[], Mapping[str, Any]] | None = None
    machine: Machine | None = None  # its buses, where they are others than Linux's
    line_errors: Callable[[str], tuple[int, int] | None] | None = None
    # Audits what was published about people: what does not hold, "" if all does.
    audit_privacy: Callable[[Path], str] = _audit
    _slots: dict[str, _Slot] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def once(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` returned, or raise what it raised, the first time; others wait."""
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
        with slot.lock:
            if not slot.made:
                slot.made = True
                try:
                    slot.value = make()
                except Exception as exc:  # noqa: BLE001  (it is raised, to all who ask)
                    slot.raised = exc
        if slot.raised is not None:
            raise slot.raised
        value: T = slot.value
        return value

    # Files

    def at(self, path: str | Path) -> Path:
        """Return where a path of the machine is."""
        parts = Path(path).parts
        if len(parts) > 1 and (root := self.roots.get(f"/{parts[1]}")) is not None:
            return root.joinpath(*parts[2:])
        return Path(path)

    def text(self, path: str | Path) -> str | None:
        """Return a small file's text; None where there is none, or nobody may read it."""
        try:
            return self.at(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """List a folder; nothing where there is none."""
        with suppress(OSError):
            return sorted(path.name for path in self.at(folder).iterdir())
        return []

    @property
    def model(self) -> str:
        """The board's name as its maker wrote it; "" on a PC."""
        return (self.text("/sys/firmware/devicetree/base/model") or "").rstrip("\0\n")

    @property
    def is_pi(self) -> bool:
        """Whether it is a Raspberry Pi."""
        return "Raspberry Pi" in self.model

    # Configuration

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the configuration file."""
        return self._configuration[1]

    @property
    def wanted(self) -> Plan | None:
        """What the configuration file asks for, where it is right."""
        return self._configuration[0]

    @property
    def plan(self) -> Plan | None:
        """What this gateway runs with: the configuration file, else the last good one."""
        return self.wanted or self.last_good

    @property
    def last_good(self) -> Plan | None:
        """The configuration that last ran, where one was kept."""
        return self.once("last good", self._load_last_good)

    @property
    def without_plan(self) -> str:
        """The check that failed, where nothing is known of sensors and brokers."""
        # Not Path.exists, which raises where a folder may not be entered.
        return "YK-CFG-02" if os.path.exists(self.config_file) else "YK-CFG-01"  # noqa: PTH110

    @property
    def _configuration(self) -> tuple[Plan | None, list[Problem]]:
        return self.once("configuration", self._load)

    def _load(self) -> tuple[Plan | None, list[Problem]]:
        from agent.applied import plan_in_force
        from config.load import ConfigError

        try:
            return plan_in_force(self.config_file), []
        except ConfigError as exc:
            return None, exc.problems

    def _load_last_good(self) -> Plan | None:
        from agent import lastgood
        from config.load import ConfigError

        found = lastgood.find(self.config_file)
        if found is None:
            return None
        try:
            return found[0].plan()
        except ConfigError:
            return None

    # Clock

    @property
    def seen(self) -> Look:
        """The clocks, looked at once."""
        return self.once("clocks", self.look)

    # The daemon and its service

    @property
    def daemon(self) -> Mapping[str, Any] | None:
        """What the running daemon says of itself; None where none answers."""
        return self._asked[0]

    @property
    def silence(self) -> Text | None:
        """Why no daemon answers."""
        return self._asked[1]

    @property
    def _asked(self) -> tuple[Mapping[str, Any] | None, Text | None]:
        return self.once("daemon", self._ask)

    def _ask(self) -> tuple[Mapping[str, Any] | None, Text | None]:
        from agent.asking import NotAnsweredError

        if self.ask_daemon is None:
            return None, None
        try:
            return self.ask_daemon(), None
        except NotAnsweredError as exc:
            return None, Text(exc.text.en, exc.text.ja)

    @property
    def has_systemd(self) -> bool:
        """Whether systemd runs this machine."""
        return self.at("/run/systemd/system").is_dir()

    @property
    def unit(self) -> Mapping[str, str]:
        """What systemd says of the service; empty where it says nothing."""
        return self._unit[0]

    @property
    def unit_silence(self) -> Text | None:
        """Why systemd, which runs here, says nothing of the service; None where it does."""
        return self._unit[1]

    @property
    def _unit(self) -> tuple[Mapping[str, str], Text | None]:
        return self.once("unit", self._ask_systemd)

    def _ask_systemd(self) -> tuple[Mapping[str, str], Text | None]:
        if not self.has_systemd:
            return {}, None
        try:
            said = self.run_program(["systemctl", "show", SERVICE, f"--property={UNIT_FACTS}"])
        except SlowProgramError as exc:
            return {}, exc.text
        found = dict(line.split("=", 1) for line in (said or "").splitlines() if "=" in line)
        return found, None if found else Text("systemctl says nothing", "systemctlの応答が空です")

    def processes(self) -> list[tuple[int, str, str]]:
        """List (process id, name, command line) of what runs."""
        return self.once("processes", self._list_processes)

    def _list_processes(self) -> list[tuple[int, str, str]]:
        found = []
        for name in self.names("/proc"):
            if re.fullmatch(r"\d+", name) and (comm := self.text(f"/proc/{name}/comm")):
                line = (self.text(f"/proc/{name}/cmdline") or "").replace("\0", " ").strip()
                found.append((int(name), comm.strip(), line))
        return found

    def openers(self, path: str) -> list[tuple[int, str, str]]:
        """List the processes that have a device open, as far as we may see."""
        node = os.path.realpath(self.at(path))
        found = []
        for pid, name, line in self.processes():
            with suppress(OSError):
                for link in self.at(f"/proc/{pid}/fd").iterdir():
                    with suppress(OSError):
                        if os.path.realpath(link) == node:
                            found.append((pid, name, line))
                            break
        return [each for each in found if each[0] != os.getpid()]

    def user(self) -> tuple[str, int, set[int]] | None:
        """Return whose rights the daemon has: name, user id, group ids; None if not known."""
        name = self.unit.get("User") or "yukimi"
        row = next((r for r in self._table("/etc/passwd") if r[0] == name and len(r) > 3), None)
        if row is None:
            return None
        also = self.unit.get("SupplementaryGroups", "").split()
        groups = {int(row[3])}
        for group in self._table("/etc/group"):
            if len(group) > 3 and (group[0] in also or name in group[3].split(",")):
                groups.add(int(group[2]))
        return name, int(row[2]), groups

    def group_name(self, number: int) -> str:
        """Return a group's name, or its number."""
        return next(
            (r[0] for r in self._table("/etc/group") if len(r) > 2 and r[2] == str(number)),
            str(number),
        )

    def _table(self, path: str) -> list[list[str]]:
        return [line.split(":") for line in (self.text(path) or "").splitlines()]


def local(config_file: Path) -> Site:
    """Return this machine's own site."""
    from agent.asking import ask, socket_path

    return Site(
        config_file,
        ask_daemon=lambda: ask(socket_path(config_file), "status", timeout_s=PROGRAM_S),
    )


def within(seconds: float, act: Callable[[], T]) -> T | None:
    """Return what `act` returns or raises; None where that takes longer."""
    done: list[T] = []
    raised: list[BaseException] = []

    def body() -> None:
        try:
            done.append(act())
        except Exception as exc:  # noqa: BLE001  (raised again on the caller's thread)
            raised.append(exc)

    thread = threading.Thread(target=body, name="doctor: bounded", daemon=True)
    began_s = time.monotonic()
    thread.start()
    thread.join(max(0.0, seconds - (time.monotonic() - began_s)))
    if raised:
        raise raised[0]
    return done[0] if done else None
