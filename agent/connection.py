"""One client of the control socket: a request's line in, an answer's lines out, both bounded.

Nothing here blocks. Whatever is open, a request that is not finished or an answer that is not
taken, has PATIENCE_S; who listens to a stream and takes what is said may stay.
"""

from __future__ import annotations

import json
import math
import selectors
import socket
import struct
from collections.abc import Callable
from typing import Any

from config.text import Text

from .answers import AskError, Document, Stream

CONTROL = "yukimi.control/1"
REQUEST_BYTES = 2**16  # a configuration fits in
ANSWER_BYTES = 2**20  # of one line
PATIENCE_S = 10.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group

SHORT_REQUEST = Text(
    "a request is one line of JSON, at most {most} bytes",
    "要求は{most}バイト以内の1行のJSONで送ってください。",
)
NO_REQUEST = Text(
    'this is no request; one looks like {{"control":"{control}","ask":"status"}}',
    '要求の形式が正しくありません。例: {{"control":"{control}","ask":"status"}}',
)
TOO_LARGE = Text("the answer is too large", "回答が大きすぎます。")


class Listening:
    """A stream that a client listens to, and what it asked."""

    def __init__(self, name: str, arguments: dict[str, Any], stream: Stream, life: int) -> None:
        self.name = name
        self.arguments = arguments
        self.stream = stream
        self.life = life  # of the gateway, in which it was asked
        self.told_at_s = -math.inf  # that the gateway starts


class Connection:
    """One client."""

    def __init__(
        self, sock: socket.socket, selector: selectors.BaseSelector, boot_s: Callable[[], float]
    ) -> None:
        self._socket = sock
        self._selector = selector
        self._boot_s = boot_s
        self._in = bytearray()
        self._out = bytearray()
        self._since_s = boot_s()  # when what is open now began
        self._asks_no_more = False
        self._listening: Listening | None = None
        self.is_gone = False
        self._selector.register(sock, selectors.EVENT_READ, self)

    @property
    def user(self) -> int | None:
        """Who it is, as the kernel says it; None where it does not."""
        try:
            told = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
        return int(_CREDENTIALS.unpack(told)[1])

    @property
    def listening(self) -> Listening | None:
        """The stream that it listens to."""
        return self._listening

    def listen(self, listening: Listening | None) -> None:
        """Begin a stream, or end it."""
        before, self._listening = self._listening, listening
        self._since_s = self._boot_s()
        if before is not None:
            before.stream.close()

    @property
    def is_idle(self) -> bool:
        """Whether it has taken all that was said."""
        return not self._out

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do for it."""
        return self.is_gone or (self._asks_no_more and not self._out and not self._has_request)

    @property
    def _has_request(self) -> bool:
        return b"\n" in self._in or len(self._in) >= REQUEST_BYTES

    def keeps_waiting(self, now_s: float) -> bool:
        """Tell whether what is open has been so for too long."""
        is_listening = self._listening is not None and not self._out
        return not is_listening and now_s - self._since_s > PATIENCE_S

    def next_s(self) -> float:
        """Return when to look at it again, if nothing happens before."""
        if self._out:
            return self._since_s + PATIENCE_S
        if self._listening is not None:
            return self._listening.stream.next_s()
        return -math.inf if self._has_request else self._since_s + PATIENCE_S

    def move(self, events: int) -> None:
        """Read what it sent, write what it can take."""
        if events & selectors.EVENT_WRITE:
            self._write()
        if events & selectors.EVENT_READ:
            self._read()

    def request(self) -> bytes | None:
        """Take the next request out of what was read, or as much as may be of one too long."""
        if not self._has_request:
            return None
        line, _, self._in = self._in.partition(b"\n")
        self._since_s = self._boot_s()
        self._watch()
        return bytes(line)

    def say(self, line: bytes) -> None:
        """Send a line, as much of it as it takes now; the rest follows."""
        if not self._out:
            self._since_s = self._boot_s()
        self._out += line
        self._write()

    def end(self) -> None:
        """Answer nothing more; what was said still goes out."""
        self._asks_no_more = True
        self._in.clear()

    def close(self) -> None:
        """Hang up."""
        self.listen(None)
        self.is_gone = True
        self._selector.unregister(self._socket)
        self._socket.close()

    def _read(self) -> None:
        room_bytes = REQUEST_BYTES - len(self._in)
        try:
            chunk = self._socket.recv(max(1, room_bytes))
        except BlockingIOError:
            return
        except OSError:
            self.is_gone = True
            return
        if not chunk:
            # Nothing more is asked. Who hangs up while listening to a stream is gone.
            self.is_gone = self._listening is not None
            self._asks_no_more = True
        elif self._listening is None:  # what is sent into a stream is nothing we wait for
            self._in += chunk
        self._watch()

    def _write(self) -> None:
        if not self._out or self.is_gone:
            return
        try:
            del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.is_gone = True
            return
        if not self._out:
            self._since_s = self._boot_s()
        self._watch()

    def _watch(self) -> None:
        """Ask for what may come: nothing is read that there is no room for."""
        may_read = not self._asks_no_more and len(self._in) < REQUEST_BYTES
        wanted = (selectors.EVENT_READ if may_read else 0) | (
            selectors.EVENT_WRITE if self._out or not may_read else 0
        )
        self._selector.modify(self._socket, wanted, self)


def parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return what a request asks, with its arguments. Raises AskError."""
    if len(line) >= REQUEST_BYTES:
        raise AskError("too_long", SHORT_REQUEST.filled(most=REQUEST_BYTES))
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict) or request.pop("control", None) != CONTROL:
        raise AskError("bad_request", NO_REQUEST.filled(control=CONTROL))
    name = request.pop("ask", None)
    if not isinstance(name, str):
        raise AskError("bad_request", NO_REQUEST.filled(control=CONTROL))
    return name, request


def reply(answer: Document, *, more: bool = False) -> bytes:
    """Return the line that gives an answer; `more` of them follow in a stream."""
    document: Document = {"control": CONTROL, "ok": True, "answer": answer}
    line = _line(document | {"more": True} if more else document)
    return line if len(line) <= ANSWER_BYTES else refusal("too_large", TOO_LARGE)


def refusal(code: str, text: Text) -> bytes:
    """Return the line that says why there is no answer."""
    error = {"code": code, "text": {"ja": text.ja, "en": text.en}}
    return _line({"control": CONTROL, "ok": False, "error": error})


def _line(document: Document) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"
