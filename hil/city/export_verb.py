"""`yukimi-city export`: what is in the tables, to FIWARE or as open data."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import structlog

from .databases import opened
from .days import local_day
from .formats import iotagent, ngsi, opendata
from .formats.observed import KINDS, Observed, between, newest, sensors
from .store import Store, StoreAwayError
from .wire import BrokerSettings, Publisher

log = structlog.get_logger(part="city")

AT_ONCE = 100  # entities in one request
HTTP_S = 30.0
UPSERT = "/ngsi-ld/v1/entityOperations/upsert?options=update"

Sink = Callable[[list[ngsi.Entity]], None]


def csv(parsed: argparse.Namespace) -> int:
    """Write a month's files; 1 where there is nothing to write."""
    year, month = (int(part) for part in parsed.month.split("-"))
    first = date(year, month, 1)
    zone = ZoneInfo(parsed.timezone)
    from_s = local_day(first, parsed.timezone, time.time()).from_s
    after = (first + timedelta(days=32)).replace(day=1)
    to_s = local_day(after, parsed.timezone, time.time()).from_s
    parsed.out.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened(parsed.database, read_only=True) as store:
        for kind in opendata.COLUMNS:
            found = _month(store, kind, parsed.gateway, from_s, to_s)
            if not found:
                continue
            path = parsed.out / opendata.file_name(kind, year, month)
            path.write_text(opendata.month(kind, found, zone), encoding="utf-8", newline="")
            print(f"{path}: {len(found)} records")
            written += 1
    if not written:
        print(f"{parsed.month}: no record of people, snow or roads", file=sys.stderr)
    return 0 if written else 1


def _month(
    store: Store, kind: str, gateway: str | None, from_s: float, to_s: float
) -> list[Observed]:
    found = [
        one for each in sensors(store, kind, gateway) for one in between(store, *each, from_s, to_s)
    ]
    return sorted(found, key=lambda one: (one.end_s, one.gateway, one.stream))


def fiware(parsed: argparse.Namespace) -> int:
    """Send each sensor's newest record, again and again with --follow; or a day, in order."""
    stopping = threading.Event()
    with opened(parsed.database, read_only=True) as store, _sink(parsed) as send:
        if parsed.day:
            span = local_day(date.fromisoformat(parsed.day), parsed.timezone, time.time())
            entities = _day(store, parsed.gateway, span.from_s, span.to_s)
            print(f"{_send_all(send, entities)} entities sent")
            return 0
        sent: dict[tuple[str, str], float] = {}
        while True:
            try:
                number = _send_all(send, _news(store, parsed.gateway, sent))
            except (StoreAwayError, OSError) as exc:
                if not parsed.follow:
                    raise
                log.warning("not sent; trying on", reason=str(exc))
            else:
                if not parsed.follow:
                    print(f"{number} entities sent")
                    return 0
            stopping.wait(parsed.every_s)


def _day(store: Store, gateway: str | None, from_s: float, to_s: float) -> Iterator[ngsi.Entity]:
    records = (
        one
        for kind in KINDS
        for each in sensors(store, kind, gateway)
        for one in between(store, *each, from_s, to_s)
    )
    return filter(None, map(ngsi.entity, records))


def _news(
    store: Store, gateway: str | None, sent: dict[tuple[str, str], float]
) -> Iterator[ngsi.Entity]:
    """Yield what is newer than what was sent; a context broker holds the present."""
    for kind in KINDS:
        for each in sensors(store, kind, gateway):
            one = newest(store, *each)
            if one is None or one.end_s <= sent.get(each, 0.0):
                continue
            entity = ngsi.entity(one)
            if entity is not None:
                yield entity
            sent[each] = one.end_s


def _send_all(send: Sink, entities: Iterator[ngsi.Entity]) -> int:
    number, some = 0, list[ngsi.Entity]()
    seen = set[str]()
    for entity in entities:
        # Of one entity only one state fits into a request.
        if len(some) == AT_ONCE or entity["id"] in seen:
            send(some)
            some, seen = [], set()
        some.append(entity)
        seen.add(entity["id"])
        number += 1
    if some:
        send(some)
    return number


class _HttpSink:
    """Entities to a context broker's HTTP interface, normalized, as a batch upsert."""

    def __init__(self, url: str, tenant: str | None, token: str | None) -> None:
        self._url = url.rstrip("/") + UPSERT
        self._headers = {"Content-Type": "application/ld+json"}
        if tenant:
            self._headers["NGSILD-Tenant"] = tenant
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> Sink:
        return self._send

    def __exit__(self, *exc_info: object) -> None:
        """Nothing is kept open."""

    def _send(self, entities: list[ngsi.Entity]) -> None:
        body = json.dumps([ngsi.normalized(each) for each in entities], ensure_ascii=False)
        request = urllib.request.Request(  # noqa: S310  # the scheme was looked at
            self._url, body.encode(), self._headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=HTTP_S):  # noqa: S310
                return
        except urllib.error.HTTPError as exc:
            said = exc.read(500).decode(errors="replace")
            raise OSError(f"the context broker refuses: {exc.code} {exc.reason}: {said}") from exc


class _MqttSink:
    """Measures to an IoT Agent, over MQTT."""

    def __init__(self, settings: BrokerSettings, api_key: str) -> None:
        self._publisher = Publisher(settings)
        self._api_key = api_key

    def __enter__(self) -> Sink:
        self._publisher.open()
        return self._send

    def __exit__(self, *exc_info: object) -> None:
        self._publisher.close()

    def _send(self, entities: list[ngsi.Entity]) -> None:
        self._publisher.publish(
            (iotagent.topic(self._api_key, each), iotagent.payload(each)) for each in entities
        )


def _sink(parsed: argparse.Namespace) -> Any:
    token = parsed.token_file and parsed.token_file.read_text().strip()
    if parsed.to.startswith(("http://", "https://")):
        return _HttpSink(parsed.to, parsed.tenant, token)
    settings = BrokerSettings(parsed.to, username=parsed.username, password=token)
    settings.address  # noqa: B018  # a wrong one is told at once
    return _MqttSink(settings, parsed.api_key)


def act(parsed: argparse.Namespace) -> int:
    """Do the export that was asked for."""
    if parsed.format == "csv":
        try:
            datetime.strptime(parsed.month, "%Y-%m")  # noqa: DTZ007  # a month has no zone
        except ValueError as exc:
            raise ValueError(f"{parsed.month}: a month is YYYY-MM") from exc
        return csv(parsed)
    return fiware(parsed)
