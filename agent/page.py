"""Waiting entries put together to travel: one message of one run, kind and configuration each.

Pure: the rows come from the spool, in its order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from .record import Page, Parcel, Top
from .shelf import Names
from .spoolfile import Row, checksum


@dataclass(slots=True)
class _OpenParcel:
    """A parcel while it is filled."""

    names: Names  # of its first entry
    ids: list[int] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    tops: list[tuple[Top, ...]] = field(default_factory=list)

    def close(self) -> Parcel:
        ids, bodies, tops = tuple(self.ids), tuple(self.bodies), tuple(self.tops)
        run, _, kind, config_id = self.names
        return Parcel(run, kind, config_id, ids, bodies, tops, None, len(ids))


class OpenPage:
    """A page while the spool is looked through for it."""

    def __init__(self, after_id: int, parcel_records: int, gateway: str) -> None:
        """Begin empty; packs of more than `parcel_records`, or of another gateway, are unfit."""
        self._parcel_records = parcel_records
        self._gateway = gateway
        self._parcels: list[_OpenParcel | Parcel] = []
        self._open: dict[tuple[str, ...], _OpenParcel] = {}
        self._unfit: list[int] = []
        self._scanned_to = after_id
        self.damaged: list[int] = []
        self.size_bytes = 0

    def look(self, row: Row, names: Names | None) -> None:
        """Take the next entry; without names it is passed over."""
        self._scanned_to = row.id
        if names is None:
            return
        if checksum(row.body, row.inside) != row.crc:
            self.damaged.append(row.id)
            return
        self.size_bytes += len(row.body)
        if row.inside is None:
            self._take_single(row, names)
        else:
            self._take_pack(row, names, row.inside)

    def _take_single(self, row: Row, names: Names) -> None:
        run, stream, kind, config_id = names
        found = self._open.get((run, kind, config_id))
        if found is None or len(found.ids) >= self._parcel_records:
            found = self._open[run, kind, config_id] = _OpenParcel(names)
            self._parcels.append(found)
        found.ids.append(row.id)
        found.bodies.append(str(row.body))
        found.tops.append(((stream, row.seq or 0),))

    def _take_pack(self, row: Row, names: Names, inside: str) -> None:
        about = json.loads(inside)
        records = len(about["ids"])
        if records > self._parcel_records or self._gateway not in ("", about["gateway"]):
            self._unfit.append(row.id)
            return
        run, _, kind, config_id = names
        # What comes after it must not join what was opened before it.
        self._open.pop((run, kind, config_id), None)
        tops = tuple((span[0], span[2]) for span in about["spans"])
        payload = row.body if isinstance(row.body, bytes) else row.body.encode()
        parcel = Parcel(run, kind, config_id, (row.id,), (), (tops,), payload, records)
        self._parcels.append(parcel)

    def close(self) -> Page:
        """Return it."""
        parcels = [each if isinstance(each, Parcel) else each.close() for each in self._parcels]
        return Page(parcels, self._scanned_to, tuple(self._unfit))
