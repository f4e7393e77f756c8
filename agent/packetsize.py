"""How large a message a broker takes: what it says, and what it was seen to hang up on."""

from __future__ import annotations

from collections import Counter

from .logs import logger

log = logger("uplink")

# A broker that hangs up so often on large messages, and says no reason, gets smaller ones.
HANG_UPS = 3
LEAST_LEARNT_BYTES = 4096
PACKET_TOO_LARGE = 0x95


class PacketSizes:
    """The largest message, by broker."""

    def __init__(self) -> None:
        self.told_bytes: int | None = None  # what the broker says it takes
        self._learnt_bytes: dict[str, int] = {}  # the largest that it let pass
        self._hang_ups: Counter[str] = Counter()

    def is_too_large(self, broker: str, size_bytes: int, *, is_single: bool) -> bool:
        """Whether a message should not be sent as it is; `is_single`: it cannot be halved."""
        if self.told_bytes and size_bytes > self.told_bytes:
            return True
        learnt_bytes = self._learnt_bytes.get(broker)
        # Only supposed: never a reason to give a record up.
        return bool(learnt_bytes and size_bytes > learnt_bytes and not is_single)

    def hung_up(self, broker: str, *, largest_bytes: int, told: bool, soon: bool) -> None:
        """Send smaller messages to a broker that hangs up on large ones.

        `largest_bytes` is of what it had not acknowledged; `told`: it said that it was too large;
        `soon`: the connection was young.
        """
        if not told and not (soon and largest_bytes > LEAST_LEARNT_BYTES):
            del self._hang_ups[broker]
            return
        self._hang_ups[broker] += 1
        if told or self._hang_ups[broker] >= HANG_UPS:
            del self._hang_ups[broker]
            self._learnt_bytes[broker] = max(LEAST_LEARNT_BYTES, largest_bytes // 2)
            log.warning(
                "broker hangs up on large messages: sending smaller ones",
                broker=broker,
                at_most_bytes=self._learnt_bytes[broker],
            )
