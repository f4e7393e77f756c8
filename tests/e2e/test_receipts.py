"""With `confirm = "receipt"` only the city's word frees a record, whatever the broker says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from hil.broker import Mosquitto
from hil.city.subscriber import City
from tests.e2e.conftest import Site, need_mosquitto

SHORTENED = {"agent.outbox.RECEIPTS_COME_S": 0.5, "agent.route.BACKOFF_CAP_S": 1.0}


@pytest.fixture
def confirming(tmp_path: Path) -> Iterator[Site]:
    """A site whose city writes receipts."""
    need_mosquitto()
    with Site(tmp_path, Mosquitto(), make_city=partial(City, receipts=True)) as site:
        yield site


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Site]:
    """A site whose city hears everything and confirms nothing."""
    need_mosquitto()
    with Site(tmp_path, Mosquitto()) as site:
        site.listen()
        yield site


def test_what_the_city_confirmed_leaves_the_spool(confirming: Site) -> None:
    site = confirming
    site.listen()
    site.configure(["snow-2"], confirm="receipt")
    site.start(SHORTENED)
    site.wait_records("snow-2", 5)
    site.wait_spooled(
        lambda spooled: spooled.produced.get("snow-2", 0) > 5 and len(spooled.waiting) <= 3,
        "records that left",
    )
    assert site.stop() == 0
    assert site.close_account().duplicates == 0


def test_what_the_city_did_not_confirm_stays_and_is_sent_again(silent: Site) -> None:
    silent.configure(["snow-2"], confirm="receipt", receipt_timeout_s=2.0)
    silent.start(SHORTENED)
    silent.wait_until(
        lambda: silent.city.report().duplicates >= 3, "records sent for the second time"
    )
    spooled = silent.spooled()
    assert len(spooled.waiting) >= sum(spooled.produced.values()) - 2
    assert silent.stop() == 0
    silent.close_account()


def test_what_the_broker_acknowledged_and_lost_comes_again(confirming: Site) -> None:
    site = confirming
    # A broker that takes everything for a city that has never been there.
    site.configure(["snow-2"], confirm="receipt", require_subscriber=False, receipt_timeout_s=2.0)
    site.start(SHORTENED)
    site.wait_new_run()
    site.wait_grown(4)
    site.broker.kill()
    site.broker.start()
    site.listen()
    site.wait_records("snow-2", 4, lane="backlog")
    site.wait_spooled(lambda spooled: len(spooled.waiting) <= 3, "records that left")
    assert site.stop() == 0
    # What was lost and comes again is behind what came meanwhile: only that nothing is missing.
    report = site.city.report()
    assert (report.missing, report.lost) == (0, 0)


def test_the_receipts_of_an_earlier_life_are_honoured_before_anything_is_sent_again(
    confirming: Site,
) -> None:
    site = confirming
    site.listen()
    site.configure(["snow-2"], confirm="receipt")
    site.start(SHORTENED)
    site.wait_records("snow-2", 3)
    site.kill()  # before the acknowledged ones left with a later commit
    heard = len(site.records("snow-2", lane="backlog"))
    site.start(SHORTENED)
    site.wait_records("snow-2", 2)
    site.wait_spooled(lambda spooled: len(spooled.waiting) <= 3, "records that left")
    again = [record["seq"] for record in site.records("snow-2", lane="backlog")[heard:]]
    assert len(again) <= 2  # only what was on its way when it was killed
    assert site.stop() == 0
    site.close_account()
