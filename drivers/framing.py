"""Cut byte streams into frames: feed what arrived, take what is complete, the rest is kept.

Every framer is bounded, takes any slice of the stream, and finds its way back after garbage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator


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


class SeekingFramer:
    """Frames that prove themselves by a head, a length and a checksum.

    `size_at(stream, at)` judges what begins at `at`: the size of a frame, 0 if none begins there,
    None if it is too early to say. After anything that is no frame it is asked again one byte on,
    so that a frame inside garbage is found. Keeps less than one frame's worth of bytes.
    """

    def __init__(self, size_at: Callable[[bytearray, int], int | None]) -> None:
        self._size_at = size_at
        self._rest = bytearray()
        self._in_garbage = False
        self.errors = 0  # runs of bytes that belong to no frame

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the frames that `chunk` completes."""
        self._rest += chunk
        return self._scan(more_may_come=True)

    def flush(self) -> list[bytes]:
        """Give up what is incomplete, and return the frames that hid in it."""
        frames = self._scan(more_may_come=False)
        self._in_garbage = False
        return frames

    def _scan(self, *, more_may_come: bool) -> list[bytes]:
        frames = []
        at = 0
        while at < len(self._rest):
            size = self._size_at(self._rest, at)
            if size is None and more_may_come:
                break
            if size:
                frames.append(bytes(self._rest[at : at + size]))
            elif not self._in_garbage:
                self.errors += 1
            self._in_garbage = not size
            at += size or 1
        del self._rest[:at]
        return frames
