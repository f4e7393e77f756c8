"""`yukimi-city run` between a real broker and a real database: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hil.bench.process import memory_kb
from hil.broker import Mosquitto
from hil.city import cli
from hil.city.databases import opened
from hil.city.store import Store
from hil.far_end import FarEnd
from hil.postgres import Postgres
from hil.relay import hold_port
from tests.hil.city.conftest import (
    ACK_BEFORE_COMMIT,
    BROKER_OPTIONS,
    count,
    deliver,
    hold_against,
    new_database,
    sender,
    url_of,
    wait_until,
)


def publish(broker: Mosquitto, topic: str, payload: bytes | str, *, retain: bool = False) -> None:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.connect(broker.host, broker.port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def retained(broker: Mosquitto, topics: str) -> dict[str, bytes]:
    """Return the retained messages of some topics."""
    found: dict[str, bytes] = {}
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    over: list[bool] = []
    client.on_message = lambda _c, _u, message: (
        over.append(True)
        if message.topic == "end"
        else found.__setitem__(message.topic, message.payload)
    )
    client.connect(broker.host, broker.port)
    client.subscribe([(topics, 1), ("end", 1)])
    client.publish("end", "", qos=1)
    while not over:
        client.loop(0.05)
    client.disconnect()
    return found


@pytest.fixture
def city(broker: Mosquitto, database: str) -> Any:
    with FarEnd(url_of(broker), database) as city:
        city.wait_connected()
        yield city


@pytest.fixture
def reader(city: FarEnd, database: str) -> Any:
    with opened(database, read_only=True) as store:
        yield store


def test_a_gateways_days_are_in_the_database_row_by_row(
    broker: Mosquitto, city: FarEnd, reader: Store
) -> None:
    one = sender(broker)
    one.measure(40)
    one.raise_alert()
    deliver(one, city)
    one.measure(30)
    one.give_up(7)
    one.begin_run()
    one.measure(20)
    deliver(one, city)
    wait_until(lambda: count(reader) + count(reader, "alert") == len(one.truth.bodies) - 7, "all")
    hold_against(reader, "gw-1", one.truth)
    ((label, state, window_s),) = reader.query(
        "SELECT g.label_ja, g.state, s.window_s FROM gateway AS g"
        " JOIN sensor AS s ON s.gateway = g.gateway WHERE s.sensor = 'hall-1'"
    )
    assert (label, state, window_s) == ("試験場 gw-1", "online", 900)
    first, second = reader.query("SELECT run, previous, clean FROM run ORDER BY started_utc")
    assert second[1] == first[0]
    assert not first[2]


def test_what_comes_twice_is_there_once(broker: Mosquitto, city: FarEnd, reader: Store) -> None:
    one = sender(broker)
    one.measure(10)
    waiting = list(one.waiting)
    deliver(one, city)
    one.waiting = waiting
    deliver(one, city)
    wait_until(lambda: count(reader) == len(one.truth.bodies), "all records", city)
    hold_against(reader, "gw-1", one.truth)


@pytest.mark.parametrize("fault", ["", ACK_BEFORE_COMMIT], ids=["honest", "ack before commit"])
def test_a_kill_while_the_database_cannot_write_loses_nothing(
    broker: Mosquitto, tmp_path: Path, fault: str
) -> None:
    """And an acknowledgement before the commit is found out."""
    path = tmp_path / "city.db"
    one = sender(broker)
    one.measure(60)
    with FarEnd(url_of(broker), f"sqlite:{path}", fault=fault) as city:
        city.wait_connected()
        wait_until(path.exists, "the tables", city)
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        deliver(one, city)  # the broker takes it all, and so does an overhasty city
        city.wait_log("the database cannot write")
        city.kill()
        blocker.execute("ROLLBACK")
        blocker.close()
        city.start()
        city.wait_connected()
        another = sender(broker, "gw-2", seed=2)
        deliver(another, city)  # what waited in the session came before this
        with opened(f"sqlite:{path}", read_only=True) as reader:
            wait_until(
                lambda: reader.query("SELECT 1 FROM record WHERE gateway = 'gw-2'"), "gw-2", city
            )
            if fault:
                with pytest.raises(AssertionError, match="are missing"):
                    hold_against(reader, "gw-1", one.truth)
            else:
                hold_against(reader, "gw-1", one.truth)


@pytest.mark.parametrize(("receive_maximum", "is_bounded"), [(5, True), (400, False)])
def test_memory_is_bounded_by_the_receive_maximum_while_the_database_cannot_write(
    broker: Mosquitto, tmp_path: Path, receive_maximum: int, is_bounded: bool
) -> None:
    """And without that bound it would not be."""
    path = tmp_path / "city.db"
    more = ("--receive-maximum", str(receive_maximum))
    with FarEnd(url_of(broker), f"sqlite:{path}", more=more) as city:
        city.wait_connected()
        with closing(sqlite3.connect(path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            publish(broker, "yukimi/v1/gw-1/live/snow", b"first")
            city.wait_log("the database cannot write")
            before_kb = memory_kb(city.pid, "Rss")
            for _ in range(300):  # garbage, so that it costs the database little later
                publish(broker, "yukimi/v1/gw-1/live/snow", b"{" + os.urandom(200_000))

            def grown_mb() -> float:
                return (memory_kb(city.pid, "Rss") - before_kb) / 1024

            if is_bounded:
                assert grown_mb() < 20
            else:
                wait_until(lambda: grown_mb() >= 20, "what the bound keeps out", city)
        with opened(f"sqlite:{path}", read_only=True) as reader:
            wait_until(lambda: count(reader, "rejected") == 301, "all of it", city)


def test_a_database_that_starts_after_the_city_is_waited_for(broker: Mosquitto) -> None:
    with (
        Postgres(options=("fsync=off",)) as server,
        FarEnd(url_of(broker), server.url) as city,
    ):
        city.wait_connected()
        city.stop()
        server.stop()
        one = sender(broker)
        deliver(one)
        city.start()
        city.wait_log("no database; trying on")
        server.start()
        city.wait_connected()
        with opened(server.url, read_only=True) as reader:
            wait_until(lambda: count(reader) == 1, "the record", city)


def test_a_database_that_never_starts_is_told_once(tmp_path: Path) -> None:
    with hold_port() as holder:
        url = f"postgresql://city@127.0.0.1:{holder.getsockname()[1]}/city"
        with FarEnd("mqtt://127.0.0.1:1", url) as city:
            city.wait_log("no database; trying on")
            time.sleep(3 * cli.RETRY_S)
            assert city.stop() == 0
            assert city.log.count("no database; trying on") == 1


def test_while_the_database_is_away_the_broker_keeps_what_comes(broker: Mosquitto) -> None:
    with (
        Postgres(options=("fsync=off",)) as server,
        FarEnd(url_of(broker), server.url, more=("--receive-maximum", "5")) as city,
    ):
        city.wait_connected()
        one = sender(broker)
        one.measure(5)
        deliver(one, city)
        server.kill()
        one.measure(30)
        for _ in range(10):
            one.measure(3)
            deliver(one, city)
        city.wait_log("the database cannot write")
        server.start()
        city.wait_log("the database takes rows again")
        with opened(server.url, read_only=True) as reader:
            wait_until(lambda: count(reader) == len(one.truth.bodies), "all records", city)
            hold_against(reader, "gw-1", one.truth)


def test_what_is_malformed_is_kept_with_its_reason_and_stops_nothing(
    broker: Mosquitto, city: FarEnd, reader: Store
) -> None:
    one = sender(broker)
    one.measure(1)
    root = "yukimi/v1/gw-1"
    good = json.loads(one.waiting[-1].body)
    batch = {
        "schema": "yukimi.batch/1",
        "gateway": "gw-1",
        "run": "r",
        "kind": "snow",
        "config": "c",
    }
    nul = good | {"seq": 2, "values": {"note": "a\0b"}}
    half = good | {"seq": 3, "values": {"note": "\ud800"}}
    beyond = good | {"seq": 2**70}
    for topic, payload in (
        ("live/snow", b"\x78\x9cnonsense"),
        ("live/snow", zlib.compress(b"{" + b" " * 20_000_000)),
        ("live/rain", json.dumps(batch | {"kind": "rain", "records": [good]})),
        ("live/snow", json.dumps(batch | {"records": [good | {"seq": 1}, nul, half, beyond]})),
        (
            "live/snow",
            json.dumps(
                batch | {"records": [good | {"seq": 4, "start": "2027-02-30T00:00:00.000Z"}]}
            ),
        ),
        (
            "live/snow",
            json.dumps(batch | {"records": [good | {"seq": 5, "values": {"x": 1}}]}).replace(
                '"x": 1', '"x": 1e999'
            ),
        ),
        ("status", b"{}"),
        ("health", b"[]"),
        ("alarm/a/b", b"{}"),
    ):
        publish(broker, f"{root}/{topic}", payload)
    deliver(one, city)
    wait_until(lambda: count(reader) == len(one.truth.bodies) + 1, "the valid records", city)
    wait_until(lambda: count(reader, "rejected") == 11, "the rejected", city)
    reasons = {row[0] for row in reader.query("SELECT reason FROM rejected")}
    for said in (
        "not zlib",
        "too large",
        "KIND",
        "NUL",
        "surrogates",
        "seq is too large",
        "day is out of range",
        "schema is not yukimi.status/1",
        "JSON object",
        "stream is not alerts",
    ):
        assert any(said in reason for reason in reasons), (said, reasons)
    # The numbers of what is malformed and kept are held: to ask for it again would bring the same.
    ((missing, rejected),) = reader.query("SELECT missing, rejected FROM account WHERE run = 'r'")
    assert (missing, rejected) == (0, 4)


def test_an_alarm_is_there_while_it_is_raised(
    broker: Mosquitto, city: FarEnd, reader: Store
) -> None:
    one = sender(broker)
    one.raise_alert()
    topic = "yukimi/v1/gw-1/alarm/snow-1/snow_dispatch"
    publish(broker, topic, one.waiting[-1].body, retain=True)
    wait_until(lambda: count(reader, "alarm") == 1, "the alarm", city)
    assert reader.query("SELECT severity, text_en FROM alarm") == [
        ("warning", "Snow to be cleared")
    ]
    publish(broker, topic, "", retain=True)
    wait_until(lambda: count(reader, "alarm") == 0, "no alarm", city)


def test_an_alarm_that_ended_while_the_broker_forgot_us_is_gone(
    broker: Mosquitto, city: FarEnd, reader: Store
) -> None:
    one = sender(broker)
    one.raise_alert()
    publish(broker, "yukimi/v1/gw-1/alarm/snow-1/snow_dispatch", one.waiting[-1].body, retain=True)
    wait_until(lambda: count(reader, "alarm") == 1, "the alarm", city)
    broker.kill()  # nothing of it was saved
    broker.start()
    wait_until(lambda: count(reader, "alarm") == 0, "no alarm", city)


def test_two_processes_share_the_records_and_one_that_dies_takes_none_along(
    broker: Mosquitto, postgres: Postgres
) -> None:
    database = new_database(postgres)
    url = url_of(broker)
    with (
        FarEnd(url, database, instance="1") as first,
        FarEnd(url, database, instance="2") as second,
    ):
        for each in (first, second):
            each.wait_connected()
        senders = [sender(broker, f"gw-{n}", seed=n, confirm="receipt") for n in range(4)]
        for one in senders:
            one.measure(40)
            deliver(one, first, second)
        second.kill()
        late = sender(broker, "gw-9", seed=9)
        late.measure(40)
        deliver(late, first)  # half of it waits for the dead one
        second.start()
        with opened(database, read_only=True) as reader:
            whole = len(late.truth.bodies) + sum(len(one.truth.bodies) for one in senders)
            wait_until(lambda: count(reader) == whole, "all records", first, second)
            for one in [*senders, late]:
                hold_against(reader, one.gateway, one.truth)
        first.stop()
        second.stop()
        assert all(" new=0 " not in end.log.rpartition("stopped")[2] for end in (first, second))


def test_a_process_that_retires_leaves_nothing_behind(
    broker: Mosquitto, postgres: Postgres
) -> None:
    database = new_database(postgres)
    url = url_of(broker)
    with (
        FarEnd(url, database, instance="1") as first,
        FarEnd(url, database, instance="2") as second,
    ):
        first.wait_connected()
        second.wait_connected()
        second.kill()
        one = sender(broker)
        one.measure(30)
        deliver(one, first)
        second.start("--retire")
        assert second.wait_end() == 0
        one.measure(30)
        deliver(one, first)
        with opened(database, read_only=True) as reader:
            wait_until(lambda: count(reader) == len(one.truth.bodies), "all records", first)
            hold_against(reader, "gw-1", one.truth)


def test_a_process_that_is_stopped_while_it_retires_keeps_what_waits_for_it(
    broker: Mosquitto, tmp_path: Path
) -> None:
    url, database = url_of(broker), f"sqlite:{tmp_path}/city.db"
    one = sender(broker)
    with FarEnd(url, database) as city:
        city.wait_connected()
    one.measure(30)
    deliver(one)
    never = """
from hil.city.store import Store, StoreAwayError
def away(self, rows):
    raise StoreAwayError("away")
Store.write = away
"""
    with FarEnd(url, database, more=("--retire",), fault=never) as city:
        city.wait_log("the database cannot write")
        city.stop()
    with FarEnd(url, database) as city, opened(database, read_only=True) as reader:
        city.wait_connected()
        wait_until(lambda: count(reader) == len(one.truth.bodies), "all records", city)


def test_receipts_name_what_is_held_and_are_emptied_in_the_end(
    broker: Mosquitto, city: FarEnd, reader: Store, database: str
) -> None:
    one = sender(broker, confirm="receipt")
    one.measure(15)
    deliver(one, city)
    first_run = one.run
    one.begin_run()
    one.measure(2)
    deliver(one, city)
    receipts = retained(broker, "yukimi/v1/gw-1/receipt/#")
    assert json.loads(receipts[f"yukimi/v1/gw-1/receipt/{first_run}/snow-1"]) == {"through": 15}
    city.stop()
    hurried = "import hil.city.receipts as r\nr.CLEAN_S = 0.2"
    with FarEnd(url_of(broker), database, fault=hurried) as city:
        wait_until(
            lambda: reader.query("SELECT 1 FROM run WHERE completed_utc IS NOT NULL"), "it", city
        )
        city.wait_connected()
        assert retained(broker, f"yukimi/v1/gw-1/receipt/{first_run}/+")
    with FarEnd(url_of(broker), database, fault=f"{hurried}\nr.KEPT_S = 0") as city:
        wait_until(
            lambda: not retained(broker, f"yukimi/v1/gw-1/receipt/{first_run}/+"), "empty", city
        )
    # The run that goes on keeps its own.
    assert retained(broker, f"yukimi/v1/gw-1/receipt/{one.run}/+")


def test_with_receipts_a_broker_that_forgets_its_queue_loses_nothing(tmp_path: Path) -> None:
    database = f"sqlite:{tmp_path}/city.db"
    with Mosquitto(extra=BROKER_OPTIONS) as broker:
        careful = sender(broker, "careful", confirm="receipt")
        trusting = sender(broker, "trusting", seed=2)
        with FarEnd(url_of(broker), database) as city:
            city.wait_connected()
            city.stop()
            for one in (careful, trusting):
                one.measure(30)
            assert not careful.deliver(3.0)  # acknowledged: the session keeps it
            deliver(trusting)
            broker.kill()  # and it is gone
            broker.start()
            city.start()
            city.wait_connected()
            deliver(careful, city)
            one = sender(broker, "last", seed=3)
            deliver(one, city)
            with opened(database, read_only=True) as reader:
                wait_until(
                    lambda: reader.query("SELECT 1 FROM record WHERE gateway='last'"), "last"
                )
                hold_against(reader, "careful", careful.truth)
                # The control: what only the broker had confirmed is lost with it.
                with pytest.raises(AssertionError, match="are missing"):
                    hold_against(reader, "trusting", trusting.truth)


def test_over_mqtt_311_one_process_reads_plainly(broker: Mosquitto, tmp_path: Path) -> None:
    database = f"sqlite:{tmp_path}/city.db"
    with FarEnd(url_of(broker), database, more=("--protocol", "3.1.1")) as city:
        city.wait_connected()
        one = sender(broker, confirm="receipt")
        one.measure(10)
        deliver(one, city)
        city.kill()
        one.measure(10)
        one.deliver(1.0)  # into the session
        city.start()
        deliver(one, city)
        with opened(database, read_only=True) as reader:
            hold_against(reader, "gw-1", one.truth)


def test_a_second_process_on_one_sqlite_file_says_no(broker: Mosquitto, tmp_path: Path) -> None:
    database = f"sqlite:{tmp_path}/city.db"
    with FarEnd(url_of(broker), database) as city:
        city.wait_connected()
        with FarEnd(url_of(broker), database, instance="2") as other:
            assert other.wait_end() == 69
            assert "take PostgreSQL for several" in other.log


def test_two_processes_of_one_name_say_so_and_lose_nothing(
    broker: Mosquitto, postgres: Postgres
) -> None:
    database = new_database(postgres)
    url = url_of(broker)
    with FarEnd(url, database) as first, FarEnd(url, database) as second:
        first.wait_log("does another process use this --instance?")
        second.wait_log("does another process use this --instance?")
        one = sender(broker)
        one.measure(10)
        deliver(one, first, second)
        with opened(database, read_only=True) as reader:
            wait_until(lambda: count(reader) == len(one.truth.bodies), "all", first, second)
            hold_against(reader, "gw-1", one.truth)


def test_a_stop_says_how_much_it_has_written(broker: Mosquitto, city: FarEnd) -> None:
    one = sender(broker, confirm="receipt")
    one.measure(3)
    deliver(one, city)
    assert city.stop() == 0
    assert f"new={len(one.truth.bodies)} " in city.log


@pytest.mark.parametrize("url", ["http://broker", "mqtt://", "broker:1883"])
def test_a_broker_that_is_none_is_told(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "--broker", url, "--database", f"sqlite:{tmp_path}/c.db"]) == 2
    assert "not mqtt://HOST" in capsys.readouterr().err
