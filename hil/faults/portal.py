"""A captive portal: whoever connects, wherever to, is answered with a web page to log in at."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

PORTAL = (
    b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)
_LOOK_S = 0.2
_PATIENCE_S = 1.0  # for what the client says


class Answerer:
    """Answers every connection to `port` with the same bytes, whatever it says, and hangs up."""

    def __init__(self, answer: bytes = PORTAL) -> None:
        self.answered = 0
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_S)
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="answerer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop."""
        self._stopping.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(OSError):
                line, _ = self._listener.accept()
                with line:
                    line.settimeout(_PATIENCE_S)
                    with suppress(OSError):
                        line.recv(4096)
                        line.sendall(self._answer)
                        self.answered += 1
