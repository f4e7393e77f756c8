"""The control socket: what the tools on this machine ask the running gateway.

One thread serves a Unix socket of JSON lines: a request of one line, an answer of one line or, of a
stream, of many. It lives as long as the process: a reload changes who answers, and whoever listens
to a stream goes on listening. Nothing that a client does or leaves undone reaches the gateway:
there are CLIENTS of them at most, each with bounded buffers, and one that does not finish its
request or does not read is dropped. An answer that has a bug costs that answer.

    {"control":"yukimi.control/1","ask":"status"}
    {"control":"yukimi.control/1","ok":true,"answer":{...}}
    {"control":"yukimi.control/1","ok":false,"error":{"code":"...","text":{"ja":"...","en":"..."}}}

All lines of a stream but the last say `"more":true`. Where the socket cannot be made, the gateway
goes on without, says so once, and tries again now and then.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from config.text import Text

from .answers import Answers, AskError
from .connection import Connection, Listening, parsed, refusal, reply
from .logs import logger, place_of
from .pulse import Pulse
from .socketfile import ListenError, OpenSocket

log = logger("control")

CLIENTS = 16
LOOK_S = 30.0  # between two looks at whether the socket is still there
SLACK_S = 60.0  # of one answer
ACCEPT_AT_ONCE = 64
RESTARTING_S = 1.0  # between two lines that say so to who listens
AFTER_BUG_S = 1.0

BUSY = Text(
    "{most} others are connected, which is all there may be; try again in a moment",
    "同時に接続できるのは{most}件までです。しばらくしてからもう一度お試しください。",
)
STARTING = Text(
    "the gateway is starting or takes a new configuration; try again in some seconds",
    "ゲートウェイは起動中または設定の読み込み中です。数秒後にもう一度お試しください。",
)
STOPPING = Text("the gateway stops", "ゲートウェイは停止します。")
BUG = Text(
    "a bug kept this from being answered; see the log (journalctl -u yukimi)",
    "プログラムの不具合のため回答できません。記録（journalctl -u yukimi）をご確認ください。",
)


class Control:
    """Serves the socket; `serve` begins its thread and `stop` ends it."""

    def __init__(self, boot_s: Callable[[], float]) -> None:
        self._boot_s = boot_s
        self._selector = selectors.DefaultSelector()
        # A file object: once closed, its number is never taken for another file's.
        waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waker = os.fdopen(waker, "r+b", buffering=0)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._answering = threading.Lock()  # held for one answer, or to change who gives them
        self._answers: Answers | None = None
        self._life = 0  # counts who answered
        self._wanted: Path | None = None
        self._open: OpenSocket | None = None
        self._lets_in = False
        self._look_at_s = 0.0
        self._clients: list[Connection] = []
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.problem: str | None = None  # why there is no socket
        self.pulse = Pulse(SLACK_S, boot_s())

    # Called by other threads

    def serve(self, path: Path) -> None:
        """Serve the socket at `path` from now on; the thread is started if need be."""
        self._wanted = path
        self._look_at_s = 0.0
        if self._thread is None:
            self.pulse.beat(self._boot_s())
            self._thread = threading.Thread(target=self._run, name="control", daemon=True)
            self._thread.start()
        self.wake()

    def attach(self, answers: Answers) -> None:
        """Let these be the answers, to those too who listen to a stream of earlier ones."""
        with self._answering:
            self._answers = answers
            self._life += 1
        self.wake()

    def detach(self) -> None:
        """Answer nothing until the next life; once this returns, nobody is being answered."""
        with self._answering:
            self._answers = None
        self.wake()

    @property
    def answering(self) -> threading.Lock:
        """Held while an answer is given: whoever else asks the same answers takes it."""
        return self._answering

    def wake(self) -> None:
        """Make the thread look at its streams. Any thread may call it at any time."""
        with suppress(OSError, ValueError):  # it may have ended
            os.eventfd_write(self._waker.fileno(), 1)

    def stop(self) -> None:
        """Tell the clients, close everything, remove the socket."""
        self._stopping.set()
        if self._thread is not None:
            self.wake()
            self._thread.join()
        self._selector.close()
        self._waker.close()

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._clients)

    @property
    def path(self) -> Path | None:
        """Where it can be reached; None where it cannot."""
        return None if self._open is None else self._open.path

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as exc:  # noqa: BLE001  (whatever it is, the gateway goes on)
                log.error("bug in the control socket", error=place_of(exc))
                self._leave_socket()
                for client in list(self._clients):
                    self._drop(client)
                self._stopping.wait(AFTER_BUG_S)
        for client in list(self._clients):
            client.say(refusal("stopping", STOPPING))
            self._drop(client)
        self._leave_socket()

    def _step(self) -> None:
        now_s = self._boot_s()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + LOOK_S
            self._tend_socket()
        wait_s = self._wait_s(now_s)
        self.pulse.beat(now_s, wait_s)
        for key, events in self._selector.select(wait_s):
            if key.fileobj is self._waker:
                with suppress(BlockingIOError):
                    os.eventfd_read(key.fd)
            elif isinstance(key.data, Connection):
                key.data.move(events)
            else:
                self._accept()
        now_s = self._boot_s()
        for client in list(self._clients):
            self._attend(client, now_s)

    def _wait_s(self, now_s: float) -> float:
        return max(0.0, min([self._look_at_s, *map(self._next_s, self._clients)]) - now_s)

    def _next_s(self, client: Connection) -> float:
        listening = client.listening
        if listening is None or not client.is_idle:
            return client.next_s()
        if self._answers is None:
            return listening.told_at_s + RESTARTING_S
        return 0.0 if listening.life != self._life else client.next_s()

    def _accept(self) -> None:
        if self._open is None:
            return
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, _ = self._open.socket.accept()
            except BlockingIOError:
                return
            except OSError as exc:  # no more file descriptors: let nobody in for a while
                log.warning("the control socket lets nobody in for now", reason=str(exc))
                self._selector.unregister(self._open.socket)
                self._lets_in = False
                return
            sock.setblocking(False)
            client = Connection(sock, self._selector, self._boot_s)
            if len(self._clients) < CLIENTS:
                self._clients.append(client)
            else:
                client.say(refusal("busy", BUSY.filled(most=CLIENTS)))
                client.close()

    def _attend(self, client: Connection, now_s: float) -> None:
        """Serve one client one step further; drop who is gone, or keeps us waiting."""
        if client.is_gone or client.keeps_waiting(now_s):
            self._drop(client)
            return
        if client.is_idle:
            if client.listening is not None:
                self._go_on(client, client.listening, now_s)
            elif (line := client.request()) is not None:
                self._answer(client, line)
        if client.is_done:
            self._drop(client)

    def _answer(self, client: Connection, line: bytes) -> None:
        try:
            name, arguments = parsed(line)
        except AskError as exc:
            client.say(refusal(exc.code, exc.text))
            client.end()
            return
        self._ask(client, name, arguments)

    def _ask(self, client: Connection, name: str, arguments: dict[str, Any]) -> None:
        listening: Listening | None = None
        try:
            with self._answering:
                if self._answers is None:
                    raise AskError("starting", STARTING)
                answer = self._answers.ask(name, arguments, user=client.user)
                if isinstance(answer, dict):
                    line = reply(answer)
                else:
                    line, listening = b"", Listening(name, arguments, answer, self._life)
        except AskError as exc:
            line = refusal(exc.code, exc.text)
        except Exception as exc:  # noqa: BLE001  (whatever it is, the others are answered)
            line = _bug(name, exc)
        client.listen(listening)
        client.say(line)

    def _go_on(self, client: Connection, listening: Listening, now_s: float) -> None:
        """Say what a stream has to say."""
        stream = listening.stream
        if self._answers is not None and listening.life != self._life:
            self._ask(client, listening.name, listening.arguments)
            return
        try:
            with self._answering:
                if self._answers is None:
                    lines = self._starting(listening, now_s)
                elif now_s < stream.next_s():
                    return
                else:
                    lines = [reply(line, more=True) for line in stream.lines(now_s)]
                    if stream.is_over:
                        lines.append(reply({"state": "over"}))
        except Exception as exc:  # noqa: BLE001  (as above)
            lines = [_bug(listening.name, exc)]
            client.listen(None)
        if stream.is_over:
            client.listen(None)
        client.say(b"".join(lines))

    def _starting(self, listening: Listening, now_s: float) -> list[bytes]:
        if now_s < listening.told_at_s + RESTARTING_S:
            return []
        listening.told_at_s = now_s
        return [reply({"state": "starting"}, more=True)]

    def _drop(self, client: Connection) -> None:
        self._clients.remove(client)
        client.close()

    # The socket

    def _tend_socket(self) -> None:
        """Make the socket where it is wanted and is not there."""
        wanted, held = self._wanted, self._open
        if held is not None and (held.path != wanted or not held.is_there()):
            self._leave_socket()
        if wanted is None:
            return
        if self._open is None:
            try:
                self._open = OpenSocket(wanted)
            except ListenError as exc:
                if str(exc) != self.problem:
                    self.problem = str(exc)
                    log.warning("no control socket; the gateway goes on without", reason=str(exc))
                return
            self.problem = None
            log.info("control socket", path=str(wanted))
        if not self._lets_in:
            self._lets_in = True
            self._selector.register(self._open.socket, selectors.EVENT_READ)

    def _leave_socket(self) -> None:
        held, self._open = self._open, None
        if held is None:
            return
        if self._lets_in:
            self._lets_in = False
            self._selector.unregister(held.socket)
        held.close()


def _bug(name: str, exc: Exception) -> bytes:
    # The place in the code, never the message: an answer may hold what was measured.
    log.error("bug in an answer", ask=name, error=place_of(exc))
    return refusal("bug", BUG)
