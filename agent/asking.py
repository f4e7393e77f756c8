"""To ask a running gateway over its control socket; for the tools, which must answer at once.

Imports nothing heavy, and the configuration only to find the socket's path in it.
"""

from __future__ import annotations

import json
import socket
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from config.places import CONTROL_SOCKET, control_socket, default_path
from config.text import Text

CONTROL = "yukimi.control/1"
TIMEOUT_S = 5.0  # for an answer; a gateway answers within milliseconds
CROWDED_RETRY_S = 0.02  # while more connect than the kernel keeps waiting
LINE_BYTES = 2**21  # of an answer: more is none of ours
CHUNK_BYTES = 2**16

NOT_RUNNING = Text(
    "no gateway answers at {path}: is it running? See: systemctl status yukimi",
    "{path}で応答するゲートウェイがありません。起動しているかご確認ください:"
    " systemctl status yukimi",
)
NOT_ALLOWED = Text(
    "you may not use {path}: join the group yukimi and log in again: sudo usermod -aG yukimi $USER",
    "{path}を使う権限がありません。グループyukimiに加わり、ログインし直してください:"
    " sudo usermod -aG yukimi $USER",
)
TOO_LATE = Text(
    "the gateway at {path} did not answer within {timeout_s:g} s; see: journalctl -u yukimi",
    "{path}のゲートウェイが{timeout_s:g}秒以内に応答しませんでした。"
    "記録をご確認ください: journalctl -u yukimi",
)
HUNG_UP = Text(
    "the gateway at {path} hung up: it has stopped, or starts again",
    "{path}のゲートウェイとの接続が切れました。停止または再起動した可能性があります。",
)
NO_SENSE = Text(
    "what answers at {path} makes no sense: another program, or a gateway of another version",
    "{path}の応答を理解できません。別のプログラムか、版の異なるゲートウェイの可能性があります。",
)
NO_PATH = Text("{path} cannot be used: {why}", "{path}に接続できません: {why}")


class NotAnsweredError(Exception):
    """There is no answer; `text` says why and what to do.

    `code` is the gateway's own, such as "no_such_sensor"; or "unreachable": nobody is there;
    "forbidden": the socket is not for us; "late": it took too long.
    """

    def __init__(self, code: str, text: Text) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def is_unreachable(self) -> bool:
        """Whether there is nobody to ask: the tools then end with 69."""
        return self.code in ("unreachable", "forbidden", "late", "busy", "starting", "stopping")


def socket_path(config_file: Path | None = None) -> Path:
    """Return where the gateway with this configuration can be asked.

    Light-handed: a configuration that cannot be read has the default.
    """
    config_file = config_file or default_path()
    return control_socket(_configured(config_file) or CONTROL_SOCKET, config_file)


def ask(path: Path, name: str, *, timeout_s: float = TIMEOUT_S, **arguments: object) -> Any:
    """Ask one question; return the answer. Raises NotAnsweredError."""
    with Asking(path, timeout_s=timeout_s) as asking:
        return asking.ask(name, **arguments)


class Asking:
    """A connection to the gateway; a context manager."""

    def __init__(self, path: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        """Describe it; nothing is connected yet."""
        self._path = path
        self._timeout_s = timeout_s
        self._socket: socket.socket
        self._rest = bytearray()

    def __enter__(self) -> Self:
        """Connect. Raises NotAnsweredError."""
        until_s = time.monotonic() + self._timeout_s
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(self._timeout_s)
        try:
            while True:
                try:
                    self._socket.connect(str(self._path))
                    return self
                except BlockingIOError:
                    if time.monotonic() >= until_s:
                        raise self._error(
                            TOO_LATE, code="late", timeout_s=self._timeout_s
                        ) from None
                    time.sleep(CROWDED_RETRY_S)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
            self._socket.close()
            raise self._error(NOT_RUNNING) from exc
        except PermissionError as exc:
            self._socket.close()
            raise self._error(NOT_ALLOWED, code="forbidden") from exc
        except OSError as exc:  # a path too long, a file that is no socket
            self._socket.close()
            raise self._error(NO_PATH, why=exc.strerror or exc) from exc
        except BaseException:
            self._socket.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._socket.close()

    def ask(self, name: str, **arguments: object) -> Any:
        """Ask; return the answer, the first line of it where there are more.

        Raises NotAnsweredError.
        """
        self._send(name, arguments)
        return self._line()["answer"]

    def stream(
        self,
        name: str,
        *,
        line_timeout_s: float | None = None,
        until_s: float | None = None,
        **arguments: object,
    ) -> Iterator[Any]:
        """Ask, and yield line after line until the gateway says that it is over.

        Each may take `line_timeout_s` (None: as long as an answer), and with `until_s` all of them
        until then, on the monotonic clock. Raises NotAnsweredError, with code "late" for either.
        """
        self._send(name, arguments)
        patience_s = self._timeout_s if line_timeout_s is None else line_timeout_s
        self._socket.settimeout(patience_s)
        while True:
            if until_s is not None:
                self._socket.settimeout(max(0.01, until_s - time.monotonic()))
            line = self._line()
            if not line.get("more"):
                if line["answer"] != {"state": "over"}:
                    yield line["answer"]
                return
            yield line["answer"]

    def fileno(self) -> int:
        """Return the connection's file descriptor, to wait for it beside others."""
        return self._socket.fileno()

    def _send(self, name: str, arguments: dict[str, object]) -> None:
        request = {"control": CONTROL, "ask": name, **arguments}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except TimeoutError as exc:
            raise self._late(self._timeout_s) from exc
        except OSError:
            return  # it hung up, and may have said why

    def _line(self) -> dict[str, Any]:
        try:
            reply = json.loads(self._read_line())
        except ValueError as exc:
            raise self._error(NO_SENSE) from exc
        match reply:
            case {"control": str(control), "ok": True, "answer": _} if control == CONTROL:
                return dict(reply)
            case {
                "ok": False,
                "error": {"code": str(code), "text": {"ja": str(ja), "en": str(en)}},
            }:
                raise NotAnsweredError(code, Text(en, ja))
            case _:
                raise self._error(NO_SENSE)

    def _read_line(self) -> bytes:
        while (at := self._rest.find(b"\n")) < 0:
            try:
                chunk = self._socket.recv(CHUNK_BYTES)
            except TimeoutError as exc:
                raise self._error(
                    TOO_LATE, code="late", timeout_s=self._socket.gettimeout()
                ) from exc
            except OSError as exc:
                raise self._error(HUNG_UP) from exc
            if not chunk:
                raise self._error(HUNG_UP)
            self._rest += chunk
            if len(self._rest) > LINE_BYTES:
                raise self._error(NO_SENSE)
        line = bytes(self._rest[:at])
        del self._rest[: at + 1]
        return line

    def _late(self, timeout_s: float | None) -> NotAnsweredError:
        return self._error(TOO_LATE, code="late", timeout_s=timeout_s)

    def _error(self, text: Text, code: str = "unreachable", **values: object) -> NotAnsweredError:
        return NotAnsweredError(code, text.filled(path=self._path, **values))


def _configured(config_file: Path) -> str | None:
    """Return [control] socket as the files say it, without judging anything else."""
    try:
        beside = sorted((config_file.parent / "gateway.d").glob("*.toml"))
    except OSError:
        beside = []
    for file in (config_file, *beside):
        try:
            text = file.read_text(encoding="utf-8")
            found = tomllib.loads(text)["control"]["socket"] if "control" in text else None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue  # whoever loads it in earnest will say so
        if isinstance(found, str):
            return found
    return None
