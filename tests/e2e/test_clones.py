"""A cloned card: two gateways with one spool and one name. Nothing of either is lost, or mixed up.

A broker lets one client in under a name, and shows the other out. Some say why (MQTT 5: DISCONNECT
0x8E, session taken over; Mosquitto from 2.0.15 on), Debian 12's Mosquitto 2.0.11 just hangs up.
So the two take the line from each other, and each delivers in its turns.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from hil.city.account import Report
from tests.e2e.conftest import GATEWAY, WAIT_S, Daemon, Site, Spooled

SHORTENED = {
    "agent.route.BACKOFF_CAP_S": 2.0,
    "agent.route.CLASH_FIRST_S": 1.0,
    "agent.route.CLASH_CAP_S": 4.0,
}
SENSORS = ("door-1", "hall-1")  # on simulated buses: both gateways have them
CLASH = "another gateway uses our id"

Key = tuple[str, str, int]  # run, stream, number


class Twins:
    """Two gateways of one card: the site's own, and one on a copy of its spool."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.backlog = self._fill(site)
        self.folder = site.folder / "clone"
        self.folder.mkdir()
        for file in site.folder.glob("spool.db*"):
            shutil.copyfile(file, self.folder / file.name)
        config = (site.folder / "gateway.toml").read_text(encoding="utf-8")
        config = config.replace(str(site.folder / "spool.db"), str(self.folder / "spool.db"))
        (self.folder / "gateway.toml").write_text(config, encoding="utf-8")
        self.clone: Daemon | None = None

    def _fill(self, site: Site) -> frozenset[Key]:
        site.configure(SENSORS)
        site.relay.cut()
        site.start(SHORTENED)
        site.wait_spooled(lambda spooled: len(spooled.waiting) >= 12, "a backlog")
        assert site.stop() == 0
        return site.spooled().waiting

    def start_both(self) -> None:
        self.site.relay.resume()
        self.start_clone()
        self.site.start(SHORTENED)

    def start_clone(self) -> None:
        self.clone = Daemon(self.folder / "gateway.toml", SHORTENED)

    def stop_clone(self) -> Spooled:
        assert self.clone is not None
        assert self.clone.stop() == 0
        self.clone.close()
        self.clone = None
        spooled = self.spooled()[1]
        self.site.produced[spooled.run] = spooled.produced
        return spooled

    def close(self) -> None:
        if self.clone is not None:
            self.clone.close()

    def spooled(self) -> tuple[Spooled, Spooled]:
        """Read both files, the site's own first."""
        own, self.site.spool = self.site.spool, self.folder / "spool.db"
        try:
            copy = self.site.spooled()
        finally:
            self.site.spool = own
        return self.site.spooled(), copy

    def wait_both(self, is_so: Callable[[Spooled], bool], what: str) -> None:
        """Wait until both spools are as asked."""
        until_s = time.monotonic() + WAIT_S
        while not all(is_so(spooled) for spooled in self.spooled()):
            if time.monotonic() > until_s:
                pytest.fail(f"not both spools had {what}:\n{self._logs()}")
            time.sleep(0.1)

    def wait_clash(self) -> None:
        """Wait until each says that there is another."""
        self.site.daemon.wait_log(CLASH)
        assert self.clone is not None
        self.clone.wait_log(CLASH)

    def end(self) -> None:
        """Stop both, and let each deliver alone what it had no turn for."""
        self.stop_clone()
        self.site.stop()
        for _ in range(2):
            if self.site.spooled().waiting:
                self.site.start(SHORTENED)
                self.site.wait_online()
                self.site.stop()
        for _ in range(2):
            if self.spooled()[1].waiting:
                self.start_clone()
                known = set(self.site.produced)
                self.site.wait_until(
                    lambda known=known: (
                        self.spooled()[1].run not in known
                        and self.spooled()[1].run in self.site.start_records()
                    ),
                    "the clone, alone",
                )
                self.stop_clone()

    def _logs(self) -> str:
        theirs = self.clone.log if self.clone is not None else []
        return "".join([*self.site.daemon.log, "\nthe clone:\n", *theirs])


@contextmanager
def twins(site: Site) -> Iterator[Twins]:
    with closing(Twins(site)) as pair:
        yield pair


def bodies(site: Site) -> dict[Key, list[str]]:
    """Return every record heard, as often as it came."""
    heard = defaultdict(list)
    for message in list(site.heard):
        for record in message.records:
            key = (message.document["run"], record["stream"], record["seq"])
            heard[key].append(json.dumps(record, sort_keys=True))
    return heard


def close_account(site: Site) -> Report:
    with site.city.locked() as account:
        for run, produced in site.produced.items():
            account.tell_produced(GATEWAY, run, produced, is_final=True)
    site.wait_until(lambda: site.city.report().missing == 0, "what both had promised")
    report = site.city.report()
    assert report.malformed == 0
    assert report.lost == 0
    assert not any(stream.surplus for stream in report.streams)
    return report


@pytest.mark.slow
def test_what_two_clones_hold_arrives_and_only_the_common_past_arrives_twice(site: Site) -> None:
    with twins(site) as pair:
        common_run = site.spooled().run
        pair.start_both()
        pair.wait_both(
            lambda spooled: spooled.run != common_run and spooled.produced.get("door-1", 0) >= 5,
            "a run of its own",
        )
        mine, theirs = pair.spooled()
        held = mine.waiting | theirs.waiting | pair.backlog
        pair.wait_both(lambda spooled: not spooled.waiting & held, "delivered what it held")
        pair.end()
        report = close_account(site)

    assert mine.run != theirs.run
    assert {mine.run, theirs.run, common_run} <= set(site.produced)
    heard = bodies(site)
    for key, copies in heard.items():
        assert len(set(copies)) == 1, f"{key} came with two bodies"
    assert all(len(heard[key]) >= 2 for key in pair.backlog)
    assert report.duplicates >= len(pair.backlog)


@pytest.mark.slow
def test_both_clones_say_that_there_is_another(site: Site) -> None:
    with twins(site) as pair:
        pair.start_both()
        pair.wait_clash()
        # Both spools are read while they fight over the line: none of it waits for a winner.
        mine, theirs = pair.spooled()
        held = mine.waiting | theirs.waiting | pair.backlog
        pair.wait_both(lambda spooled: not spooled.waiting & held, "delivered what it held")
        for daemon in (site.daemon, pair.clone):
            assert daemon is not None
            for line in daemon.said(CLASH):
                assert "level=warning" in line
        pair.end()
        close_account(site)


def test_a_gateway_that_is_alone_never_says_so(site: Site) -> None:
    site.configure(SENSORS)
    site.start(SHORTENED)
    site.wait_records("door-1", 2)
    site.relay.reset()
    site.daemon.wait_log("event=connected", times=2)
    site.wait_records("door-1", 1)
    assert not site.daemon.said(CLASH)
    assert site.stop() == 0
    site.close_account()
