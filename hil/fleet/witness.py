"""What the city hears: how much, when, and whether each record is the one that was committed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from ..city.payloads import LANES, unpack

ROOT = "yukimi/v1"
MARK = f"{ROOT}/fleet-mark/status"  # nobody's: the account passes it over

Key = tuple[str, str, str, int]  # gateway, run, stream, number


@dataclass(slots=True)
class Slice:
    """What came within one second of the fleet's clock."""

    messages: int = 0
    records: int = 0
    payload_bytes: int = 0
    births: int = 0


class Witness:
    """Hears every message, on the subscriber's thread."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.slices: dict[int, Slice] = {}
        self.lanes: dict[str, Slice] = {}
        self._checks: dict[Key, int] = {}
        self._marks: set[bytes] = set()
        self._marked = threading.Condition()

    def heard(self, topic: str, payload: bytes, records: list[dict[str, Any]]) -> None:
        """Take a message."""
        if topic == MARK:
            with self._marked:
                self._marks.add(payload)
                self._marked.notify_all()
            return
        gateway, lane = topic.removeprefix(f"{ROOT}/").split("/")[:2]
        for one in (
            self.slices.setdefault(int(self._now_s()), Slice()),
            self.lanes.setdefault(lane, Slice()),
        ):
            one.messages += 1
            one.records += len(records)
            one.payload_bytes += len(payload)
            one.births += lane == "status"
        if lane in LANES and records:
            run = unpack(payload)["run"]
            for record in records:
                text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
                self._checks[gateway, run, record["stream"], record["seq"]] = crc32(text.encode())

    def wait_for_mark(self, mark: bytes, timeout_s: float) -> bool:
        """Wait until a mark came, and with it all that the broker had taken before."""
        with self._marked:
            return self._marked.wait_for(lambda: mark in self._marks, timeout_s)

    def differences(self, gateway: str, committed: Mapping[tuple[str, str, int], int]) -> list[str]:
        """Name the records that did not come as they were committed, or not at all."""
        found = []
        for (run, stream, seq), check in committed.items():
            came = self._checks.get((gateway, run, stream, seq))
            if came != check:
                what = "never came" if came is None else "is not what was committed"
                found.append(f"{gateway} {run} {stream} {seq} {what}")
        return found
