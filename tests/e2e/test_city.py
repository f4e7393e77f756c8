"""The real daemon and the real `yukimi-city`, both killed: the database equals what was heard."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hil.city.databases import opened
from hil.city.store import Store
from hil.far_end import FarEnd
from hil.senders.verdict import records_in
from tests.e2e.conftest import GATEWAY, Site

SHORTENED = {"agent.outbox.RECEIPTS_COME_S": 0.5, "agent.route.BACKOFF_CAP_S": 1.0}


def heard(site: Site) -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return every record that the bench's own subscriber heard, as it was sent."""
    found = {}
    for message in list(site.heard):
        for record in message.records:
            if "gap" not in record:
                key = (message.document["run"], record["stream"], record["seq"])
                found[key] = record
    return found


def held(store: Store) -> dict[str, Any]:
    return {
        f"{run} {stream}": (produced, delivered, missing)
        for run, stream, produced, delivered, missing in store.query(
            "SELECT run, stream, produced, delivered, missing FROM account"
        )
    }


@pytest.mark.slow
def test_a_gateway_that_waits_for_receipts_is_in_the_citys_database_row_by_row(
    site: Site,
) -> None:
    database = f"sqlite:{site.folder}/city.db"
    url = f"mqtt://{site.broker.host}:{site.broker.port}"
    site.configure(["snow-2", "door-1"], confirm="receipt", receipt_timeout_s=2.0)
    with FarEnd(url, database) as city:
        city.wait_connected()
        site.start(SHORTENED)
        site.wait_records("snow-2", 4)
        city.kill()
        site.wait_records("snow-2", 4)
        site.kill()
        city.start()
        site.start(SHORTENED)
        site.wait_records("snow-2", 4)
        site.wait_spooled(lambda spooled: len(spooled.waiting) <= 4, "records that left")
        assert site.stop() == 0
        with opened(database, read_only=True) as store:
            site.wait_until(
                lambda: set(records_in(store, GATEWAY)) == set(heard(site)), "every record"
            )
            rows = records_in(store, GATEWAY)
            for key, record in heard(site).items():
                quality = record.get("quality", {})
                quality.pop("reasons", None)  # a column of its own
                assert rows[key] == json.loads(json.dumps(record)), key
            for run, produced in site.produced.items():
                for stream, number in produced.items():
                    told, delivered, missing = held(store)[f"{run} {stream}"]
                    assert (told, delivered, missing) == (number, number, 0), (run, stream)
        assert site.close_account().lost == 0
