"""A daemon on which everything is on, its lives and deaths, and all that it leaves behind.

`live_through` drives the pattern through one daemon after another on one spool: killed while it is
connected, in an outage in which packs were made, at a start in the outage, and after the drain;
once it is stopped in order, and then its spool is damaged. It is asked over its socket how it is.
Everything in its folders is copied, after each life and now and then in between: state, working
directory, temporary files. Each byte between it and the broker is recorded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import kernel
from agent.asking import NotAnsweredError, ask
from agent.spoolfile import PAGE_SIZE
from drivers.base import Direction

from ..broker import Mosquitto
from ..city.subscriber import City
from ..relay import Ear, Relay
from ..sniffer import PacketFramer
from .gateway import CONTROL_SOCKET, GATEWAY, configuration
from .pattern import Pattern, S

WAIT_S = 90.0  # for anything that must happen; no promise about how fast it does
COPY_EVERY_S = 2.0  # while it runs: what is deleted soon is seen too
ASK_EVERY_S = 0.9

# Source: https://www.sqlite.org/fileformat.html, section 4.1.
WAL_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
WAL_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24


@dataclass(frozen=True, slots=True)
class Crossed:
    """One crossing, as the gateway's pipeline took it."""

    sensor: str
    way: Direction
    boot_ns: int
    utc_ns: int


@dataclass(frozen=True, slots=True)
class Message:
    """An MQTT message on its way from the gateway."""

    at_ns: int  # UTC, when the relay carried its last byte
    topic: str  # below the gateway's own root
    payload: bytes


@dataclass(slots=True)
class Evidence:
    """What one gateway knew in its memory, and all that it let out."""

    pattern: Pattern
    crossed: list[Crossed] = field(default_factory=list)
    serial: set[bytes] = field(default_factory=set)  # what devices said, in one go
    i2c: set[bytes] = field(default_factory=set)
    left: dict[str, bytes] = field(default_factory=dict)  # by where: log, wire, disk
    messages: list[Message] = field(default_factory=list)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)  # to `status`, and when
    copies: list[Path] = field(default_factory=list)  # of its state, after each end
    glimpses: list[Path] = field(default_factory=list)  # while it was running
    cores: list[str] = field(default_factory=list)
    set_aside: int = 0  # damaged spools that were copied
    kills: int = 0
    stops: int = 0


class CanaryError(Exception):
    """The gateway did not do what it must before anything can be searched."""


class Site:
    """One gateway's surroundings; a context that ends everything it started."""

    def __init__(self, folder: Path, *, seed: int, leaks: Sequence[str] = ()) -> None:
        self._folder, self._leaks = folder, tuple(leaks)
        self._rooms = [folder / name for name in ("state", "work", "tmp")]
        for room in self._rooms:
            room.mkdir(parents=True)
        look = kernel.look()
        to_second_ns = S - look.utc_ns % S
        self.evidence = Evidence(Pattern(seed, look.boot_ns + to_second_ns))
        self._heard = threading.Condition()
        self._carried: list[bytearray] = []  # each connection's, either way
        self._broker = Mosquitto(extra=("log_type none", "max_queued_messages 0"))
        self._broker.start()
        self._relay = Relay(self._broker.host, self._broker.port, new_ear=self._new_ear)
        self._city = City(self._broker.host, self._broker.port)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = (folder / "daemon.log").open("ab")
        self._config = folder / "gateway.toml"
        text = configuration(self._relay.port, self._rooms[0] / "spool.db")
        self._config.write_text(text, encoding="utf-8")

    def __enter__(self) -> Site:
        self._city.start()
        self._city.wait_subscribed()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._city.close()
        self._relay.close()
        self._broker.close()
        self._log.close()

    def live_through(self, crossings: int) -> Evidence:
        """Let at least so many crossings pass, in five lives. Raises CanaryError."""
        share = -(-crossings // 5)
        self._start()
        self._wait_crossings(share)
        self._kill()
        self._start()
        self._wait_crossings(share // 3)
        self._relay.cut()
        self._wait_crossings(share)
        self._kill()
        self._start()
        self._wait_crossings(share // 3)
        self._kill()
        self._start()
        self._wait_crossings(share // 3)
        self._relay.resume()
        self._wait(lambda: any(each.topic.startswith("backlog") for each in self._messages()))
        self._wait_crossings(share)
        self._stop()
        self._damage()
        self._start()
        self._wait_crossings(max(share // 2, crossings - len(self.evidence.crossed)))
        self._kill()
        return self._all()

    def live_briefly(self, crossings: int) -> Evidence:
        """Let at least so many crossings pass, most of them connected, in two lives."""
        self._start()
        self._wait_crossings(crossings * 4 // 5)
        self._relay.cut()
        self._wait_crossings(crossings // 5)
        self._kill()
        self._relay.resume()
        self._start()
        self._wait_crossings(crossings // 10)
        self._stop()
        return self._all()

    # Lives

    def _start(self) -> None:
        pattern = self.evidence.pattern
        ours, theirs = os.pipe()
        settings = json.dumps([theirs, pattern.seed, pattern.origin_ns, self._leaks])
        body = "import sys; from hil.canary import life; sys.exit(life.live())"
        command = [sys.executable, "-c", body, settings, "run", "--log-level", "debug"]
        state, work, tmp = self._rooms
        self._process = subprocess.Popen(
            [*command, "--config", str(self._config)],
            cwd=work,
            env=os.environ | {"STATE_DIRECTORY": str(state), "TMPDIR": str(tmp)},
            stdout=self._log,
            stderr=self._log,
            pass_fds=(theirs,),
        )
        os.close(theirs)
        self._listener = threading.Thread(target=self._listen, args=(ours,), name="canary's ear")
        self._listener.start()

    def _kill(self) -> None:
        assert self._process is not None  # noqa: S101
        self._process.kill()
        self._process.wait()
        self._listener.join()
        self.evidence.kills += 1
        self._copy()

    def _stop(self) -> None:
        assert self._process is not None  # noqa: S101
        self._process.terminate()
        try:
            code = self._process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGUSR1)  # where it stands is in its log then
            time.sleep(1.0)
            raise CanaryError(f"the gateway does not stop{self._said()}") from None
        if code:
            raise CanaryError(f"the gateway ended with {code}{self._said()}")
        self._listener.join()
        self.evidence.stops += 1
        self._copy()

    def _wait_crossings(self, more: int) -> None:
        until = len(self.evidence.crossed) + more
        self._wait(lambda: len(self.evidence.crossed) >= until)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WAIT_S
        copy_s = time.monotonic() + COPY_EVERY_S
        ask_s = time.monotonic()
        while True:
            with self._heard:
                if self._heard.wait_for(is_so, timeout=0.2):
                    return
            if self._process is None or self._process.poll() is not None:
                raise CanaryError(f"the gateway ended by itself{self._said()}")
            if time.monotonic() > until_s:
                raise CanaryError(f"what should happen does not{self._said()}")
            if time.monotonic() > copy_s:
                copy_s = time.monotonic() + COPY_EVERY_S
                self._copy()
            if time.monotonic() > ask_s:
                ask_s = time.monotonic() + ASK_EVERY_S
                self._ask()

    def _ask(self) -> None:
        """Ask it over its socket how it is; before it listens there is no answer."""
        with suppress(NotAnsweredError):
            answer = ask(self._config.with_name(CONTROL_SOCKET), "status")
            self.evidence.answers.append((time.time_ns(), answer))

    def _damage(self) -> None:
        """Let a page of the spool be lost: what is set aside is searched too."""
        with (self._rooms[0] / "spool.db").open("r+b") as file:
            file.seek(2 * PAGE_SIZE)  # after the header's and the pointers' own: a table's root
            file.write(b"\xff" * PAGE_SIZE)

    def _said(self) -> str:
        return ":\n" + (self._folder / "daemon.log").read_text(errors="replace")[-6000:]

    # What is heard and left

    def _listen(self, pipe: int) -> None:
        with os.fdopen(pipe, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    return  # killed in the middle of it
                what, value = json.loads(line)
                with self._heard:
                    if what == "crossed":
                        self.evidence.crossed += [Crossed(*each) for each in value]
                    else:
                        said = self.evidence.serial if what == "serial" else self.evidence.i2c
                        said.add(bytes.fromhex(value))
                    self._heard.notify_all()

    def _new_ear(self) -> Ear:
        framer, ways = PacketFramer(), {True: bytearray(), False: bytearray()}
        self._carried += ways.values()

        def hear(to_target: bool, chunk: bytes) -> None:
            with self._heard:
                ways[to_target] += chunk
                for first, body in framer.feed(chunk) if to_target else ():
                    if message := published(first, body):
                        self.evidence.messages.append(message)
                self._heard.notify_all()

        return hear

    def _messages(self) -> list[Message]:
        return self.evidence.messages  # asked under the lock

    def _copy(self) -> None:
        """Copy all files in its folders; a copy is a moment's, however old its parts are."""
        evidence = self.evidence
        number = len(evidence.copies) + len(evidence.glimpses)
        copies = self._folder / "copies" / f"{number:03}"
        for room in self._rooms:
            for file in room.rglob("*"):
                if not file.is_file():
                    continue
                try:
                    content = file.read_bytes()
                except FileNotFoundError:  # gone meanwhile
                    continue
                evidence.set_aside += "damaged" in file.name
                if file.name.startswith("core"):
                    evidence.cores.append(file.name)
                copy = copies / file.relative_to(self._folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(content)
        has_ended = self._process is None or self._process.poll() is not None
        (evidence.copies if has_ended else evidence.glimpses).append(copies / "state")

    def _all(self) -> Evidence:
        """Put together what was left, each different page once."""
        self._log.flush()
        left = {
            "log": (self._folder / "daemon.log").read_bytes(),
            "wire": b"\n".join(self._carried),
            "socket": json.dumps(self.evidence.answers, ensure_ascii=False).encode(),
        }
        seen: set[bytes] = set()
        for file in sorted((self._folder / "copies").rglob("*")):
            if file.is_file():
                new = [each for each in parts(file.read_bytes()) if each not in seen]
                seen.update(new)
                if new:
                    left[f"disk {file.relative_to(self._folder / 'copies')}"] = b"\n".join(new)
        self.evidence.left = left
        return self.evidence


def parts(content: bytes) -> list[bytes]:
    """Cut a database or a WAL into its pages, a page of a WAL with its header; else do not cut.

    Most of a copy is what the one before it was. What lies in two pages is torn in the file too.
    """
    begin, length = 0, max(1, len(content))
    if content.startswith(b"SQLite format 3\0"):
        length = PAGE_SIZE
    elif content[:4] in WAL_MAGIC:
        begin, length = WAL_HEADER_BYTES, PAGE_SIZE + FRAME_HEADER_BYTES
    head = [content[:begin]] if begin else []
    return head + [content[at : at + length] for at in range(begin, len(content), length)]


def published(first: int, body: bytes) -> Message | None:
    """Return the message in a packet of MQTT 5; None if it is no PUBLISH."""
    if first >> 4 != 3:
        return None
    end = 2 + int.from_bytes(body[:2], "big")
    topic = body[2:end].decode().partition(f"/{GATEWAY}/")[2]
    at = end + (2 if first & 0x06 else 0)
    length, shift = 0, 0
    while True:  # of the properties: seven bits a byte, the lowest first
        length |= (body[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if body[at - 1] < 0x80:
            break
    return Message(time.time_ns(), topic, body[at + length :])
