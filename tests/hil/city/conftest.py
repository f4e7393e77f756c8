"""Real databases and a real broker for the city's end."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.broker import MOSQUITTO, Mosquitto
from hil.city.databases import opened
from hil.city.store import Store
from hil.far_end import WAIT_S, FarEnd
from hil.postgres import Postgres, binaries
from hil.senders.gateway import Sender, Truth
from hil.senders.verdict import problems

# A broker for a city that may be away: Mosquitto's own default keeps 1,000 messages.
BROKER_OPTIONS = ("log_type none", "max_queued_messages 0", "max_inflight_messages 200")
# The library then acknowledges as soon as a message is there.
ACK_BEFORE_COMMIT = """
import paho.mqtt.client
init = paho.mqtt.client.Client.__init__
def hasty(self, *args, **more):
    init(self, *args, **{**more, "manual_ack": False})
paho.mqtt.client.Client.__init__ = hasty
"""
_names = itertools.count()


def absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    if not Path(MOSQUITTO).exists():
        absent(f"no {MOSQUITTO}: apt install mosquitto")
    with Mosquitto(persistence=True, extra=BROKER_OPTIONS) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for all tests; each makes a database of its own."""
    if binaries() is None:
        absent("no PostgreSQL: apt install postgresql")
    with Postgres(options=("fsync=off",)) as server:
        yield server


def new_database(server: Postgres) -> str:
    """Make an empty database; return its URL."""
    import psycopg

    name = f"city_{next(_names)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url.replace("/postgres", f"/{name}")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/city.db"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with opened(database) as store:
        store.migrate()
        yield store


def url_of(broker: Mosquitto) -> str:
    return f"mqtt://{broker.host}:{broker.port}"


def wait_until(is_so: Callable[[], Any], what: str, *ends: FarEnd) -> None:
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        for end in ends:
            end.check()
        if time.monotonic() > until_s:
            pytest.fail(f"never: {what}\n" + "".join(end.log for end in ends))
        time.sleep(0.05)


def count(store: Store, table: str = "record") -> int:
    number: int = store.query(f"SELECT count(*) FROM {table}")[0][0]
    return number


def hold_against(store: Store, gateway: str, truth: Truth) -> None:
    """Hold the database against what a gateway ever committed and gave up, row by row."""
    found = problems(store, gateway, truth)
    assert not found, "\n".join(found)


def sender(broker: Mosquitto, gateway: str = "gw-1", **more: Any) -> Sender:
    """Return a gateway in its first life."""
    one = Sender(gateway, broker.host, broker.port, **more)
    one.begin_run()
    return one


def deliver(one: Sender, *ends: FarEnd) -> None:
    """Let a gateway try until nothing waits."""
    wait_until(lambda: one.deliver(5.0), f"{one.gateway} delivers", *ends)
