"""Cut byte streams into frames: feed what arrived, take what is complete, the rest is kept.

Every framer is bounded, takes any slice of the stream, and finds its way back after garbage.
"""

from __future__ import annotations

from collections.abc import Iterator


class LineFramer:
    """Frames that end in one known byte, such as CR or LF.

    A line longer than `max_bytes` is no line: it is dropped up to its end, and counted.
    """

    def __init__(self, *, end: bytes = b"\n", max_bytes: int = 256) -> None:
        self._end = end
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._skipping = False
        self.overlong = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield each complete line without its end, CR stripped where LF ends it."""
        self._rest += chunk
        while (at := self._rest.find(self._end)) >= 0:
            line = bytes(self._rest[:at])
            del self._rest[: at + len(self._end)]
            if self._skipping or len(line) > self._max_bytes:
                self.overlong += 0 if self._skipping else 1
                self._skipping = False
                continue
            yield line.rstrip(b"\r") if self._end == b"\n" else line
        if len(self._rest) > self._max_bytes:
            self.overlong += 0 if self._skipping else 1
            self._skipping = True
            self._rest.clear()
