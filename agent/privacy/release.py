"""From counts to figures: once, and written down before.

A window of people closes sealed. Its release is reserved in the ledger and synced; only then noise
is drawn, once, and the true counts are gone. The record that comes out is committed together with
the ledger's line about it, however often that must be tried. Where nothing can be reserved, or a
life ended between the two, the window is burned: its record says so, and has no figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from config.exact import fraction
from drivers.base import Withheld

from ..clock import Clock, Stamp
from ..logs import logger
from ..phenomena.people import Counted
from ..record import Record
from ..spoolfile import SpoolError
from .ledger import Claim
from .policy import Policy, accuracy

log = logger("privacy")


class Reserves(Protocol):
    """Where releases are reserved: the spool."""

    def reserve(self, claims: Sequence[Claim]) -> list[Claim]:
        """Write down and sync that these are about to be released. Raises SpoolError."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Sealed(Withheld):
    """A closed window of people before its release; it prints nothing about what it holds."""

    claim: Claim
    record: Record  # as it is without figures
    counts: Counted
    policy: Policy

    def release(self, claim: Claim) -> Record:
        """Draw the noise, once, and forget the counts; `claim` is as it was reserved.

        Raises RuntimeError for the second time.
        """
        values = {**self.record.values, **self.policy.release(self.counts.take())}
        return replace(self.record, values=values, settles=claim)

    def burn(self) -> Record:
        """Forget the counts, and return the record that says so."""
        self.counts.take()
        return burned(replace(self.record, settles=self.claim))


def release(closed: Sequence[Record | Sealed], spool: Reserves) -> list[Record]:
    """Return the records of windows that closed together, those of people released or burned."""
    sealed = [each for each in closed if isinstance(each, Sealed)]
    if not sealed:
        return [each for each in closed if isinstance(each, Record)]
    try:
        reserved = iter(spool.reserve([each.claim for each in sealed]))
    except SpoolError as exc:
        log.error("nothing can be reserved: people's windows are burned", reason=str(exc))
        return [each.burn() if isinstance(each, Sealed) else each for each in closed]
    return [each.release(next(reserved)) if isinstance(each, Sealed) else each for each in closed]


def burned(record: Record) -> Record:
    """Return a record without figures, which says that its window is burned."""
    expected = record.quality["expected"]
    quality = {"flag": "missing", "n": 0, "expected": expected, "reasons": ["burned"]}
    values = {name: _without(value) for name, value in record.values.items()}
    return replace(record, quality=quality, values=values)


def _without(value: object) -> object:
    return None if isinstance(value, Mapping) and "unclamped" in value else value


def burned_before(claim: Claim, clock: Clock, boot_id: str) -> Record:
    """Return the record of a window that an earlier life reserved and did not release.

    Its time is as it was known then. Where it was not, and this is still the same boot, what is
    known now, or will be, puts it right.
    """
    stamp, times = claim.clock, (claim.start_ns, claim.end_ns)
    if stamp.state == "estimated" and claim.boot_id == boot_id:
        times = (clock.utc_ns(claim.start_boot_ns), clock.utc_ns(claim.end_boot_ns))
        stamp = clock.corrected(claim.start_boot_ns) if clock.known else clock.stamp()
    elif stamp.state == "estimated":
        stamp = Stamp("estimated", None)
    quality = {"flag": "missing", "n": 0, "expected": claim.expected, "reasons": ["burned"]}
    values = dict.fromkeys(claim.directions) | accuracy(fraction(claim.epsilon))
    boot_times = (claim.start_boot_ns, claim.end_boot_ns)
    return Record(claim.sensor, "people", *times, *boot_times, stamp, quality, values, claim)
