"""`yukimi-city export`: what is in the tables, to FIWARE or as open data."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
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

# Not 200: that is somebody else's answer, such as the page at the end of a redirection.
TAKEN = (201, 204)
BLAMES_ENTITIES = (207, 400, 413, 422)  # 207: it took some of them

Sink = Callable[[list[ngsi.Entity]], None]


class RefusedError(OSError):
    """The context broker does not take these entities, or not all of them."""


def csv(parsed: argparse.Namespace) -> int:
    """Write a month's files; 1 where there is nothing to write."""
    year, month = (int(part) for part in parsed.month.split("-"))
    first = date(year, month, 1)
    zone = ZoneInfo(parsed.timezone)
    after = (first + timedelta(days=32)).replace(day=1)
    midnights = [
        local_day(first + timedelta(days=n), parsed.timezone, time.time()).from_s
        for n in range((after - first).days + 1)
    ]
    parsed.out.mkdir(parents=True, exist_ok=True)
    written = 0
    with opened(parsed.database, read_only=True) as store:
        for kind in opendata.COLUMNS:
            path = parsed.out / opendata.file_name(kind, year, month)
            part = path.with_suffix(".part")  # a file of its name is whole
            lines = opendata.month(kind, _month(store, kind, parsed.gateway, midnights), zone)
            number = -1  # the line of names is no record
            with part.open("w", encoding="utf-8", newline="") as file:
                for line in lines:
                    file.write(line)
                    number += 1
            if not number:
                part.unlink()
                continue
            part.replace(path)
            print(f"{path}: {number} records")
            written += 1
    if not written:
        print(f"{parsed.month}: no record of people, snow or roads", file=sys.stderr)
    return 0 if written else 1


def _month(
    store: Store, kind: str, gateway: str | None, midnights: Sequence[float]
) -> Iterator[Observed]:
    """Yield a month's records in order of time; of a city no more than a day fits into memory."""
    chosen = sensors(store, kind, gateway)
    for from_s, to_s in pairwise(midnights):
        day = [one for each in chosen for one in between(store, *each, from_s, to_s)]
        yield from sorted(day, key=lambda one: (one.end_s, one.gateway, one.stream))


def fiware(parsed: argparse.Namespace) -> int:
    """Send each sensor's newest record, again and again with --follow; or a day, in order."""
    stopping = threading.Event()
    with opened(parsed.database, read_only=True) as store, _sink(parsed) as send:
        if parsed.day:
            span = local_day(date.fromisoformat(parsed.day), parsed.timezone, time.time())
            entities = _day(store, parsed.gateway, span.from_s, span.to_s)
            print(f"{_send_all(send, entities)} entities sent")
            return 0
        sent: dict[str, ngsi.Entity] = {}
        told = ""
        while True:
            try:
                number = _send_all(send, _news(store, parsed.gateway, sent), sent)
            except (StoreAwayError, OSError) as exc:
                if not parsed.follow:
                    raise
                if told != str(exc):
                    told = str(exc)
                    log.warning("not sent; trying on", reason=told)
            else:
                if not parsed.follow:
                    print(f"{number} entities sent")
                    return 0
                if told:
                    log.warning("all is sent again")
                told = ""
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
    store: Store, gateway: str | None, sent: Mapping[str, ngsi.Entity]
) -> Iterator[ngsi.Entity]:
    """Yield what is other than what was sent; a context broker holds the present."""
    now_s = time.time()
    for kind in KINDS:
        for each in sensors(store, kind, gateway):
            one = newest(store, *each, now_s)
            entity = ngsi.entity(one) if one is not None else None
            if entity is not None and sent.get(entity["id"]) != entity:
                yield entity


def _send_all(
    send: Sink, entities: Iterable[ngsi.Entity], sent: dict[str, ngsi.Entity] | None = None
) -> int:
    """Send entities and note in `sent` which were taken; return how many.

    Those that are refused keep no others back; in the end the refusal is raised.
    """
    number, refusal = 0, None
    for some in _requests(entities):
        for taken in _taken(send, some):
            if isinstance(taken, RefusedError):
                refusal = taken
                continue
            number += len(taken)
            if sent is not None:
                sent.update({each["id"]: each for each in taken})
    if refusal is not None:
        raise refusal
    return number


def _requests(entities: Iterable[ngsi.Entity]) -> Iterator[list[ngsi.Entity]]:
    some = dict[str, ngsi.Entity]()
    for entity in entities:
        # Of one entity only one state fits into a request.
        if len(some) == AT_ONCE or entity["id"] in some:
            yield list(some.values())
            some.clear()
        some[entity["id"]] = entity
    if some:
        yield list(some.values())


def _taken(send: Sink, some: list[ngsi.Entity]) -> Iterator[list[ngsi.Entity] | RefusedError]:
    """Send what one request holds, in halves where it is refused; yield what was taken."""
    try:
        send(some)
    except RefusedError as exc:
        half = len(some) // 2
        if not half:
            yield exc
            return
        yield from _taken(send, some[:half])
        yield from _taken(send, some[half:])
    else:
        yield some


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
            answer = urllib.request.urlopen(request, timeout=HTTP_S)  # noqa: S310
        except urllib.error.HTTPError as exc:
            answer = exc
        except http.client.HTTPException as exc:
            raise OSError(f"{self._url}: that is no HTTP: {exc!r}") from exc
        with answer:
            if answer.status not in TAKEN:
                said = answer.read(500).decode(errors="replace")
                kind = RefusedError if answer.status in BLAMES_ENTITIES else OSError
                raise kind(f"the context broker refuses: {answer.status} {answer.reason}: {said}")


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
