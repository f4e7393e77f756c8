"""A gateway in a network of its own, whose name server and cable fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil.faults.ext4 import UnavailableError
from hil.faults.namespace import Namespace
from hil.faults.resolver import Resolver
from hil.relay import Relay
from tests.e2e.conftest import Site

NAME = "broker.sapporo.example"
SHORTENED = {"agent.route.BACKOFF_CAP_S": 1.5, "agent.outbox.ACK_TIMEOUT_S": 2.0}


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    try:
        namespace = Namespace()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    with namespace:
        yield namespace


@pytest.mark.slow
def test_without_name_server_or_cable_everything_waits_and_comes_when_they_are_back(
    site: Site, namespace: Namespace
) -> None:
    relay = Relay(site.broker.host, site.broker.port, host=namespace.outside)
    with relay, Resolver(namespace.outside, {NAME: namespace.outside}) as resolver:
        site.prefix = namespace.prefix
        site.configure(("snow-2",), brokers=[f"mqtt://{NAME}:{relay.port}"])
        site.start(SHORTENED)
        site.wait_records("snow-2", 1)
        assert not site.daemon.said("not reachable")  # the control

        for begin, words in (
            (resolver.silence, "name resolution"),
            (resolver.forget, "not known"),
        ):
            heal = begin()
            site.wait_records("snow-2", 1)  # a connection that stands needs no name
            relay.reset()
            site.daemon.wait_log("not reachable", words)
            site.wait_grown(2)
            heal()
            site.wait_records("snow-2", 1)

        heal = namespace.unplug()  # nobody says good-bye
        site.daemon.wait_log("connection lost", "does not acknowledge")
        site.wait_grown(2)
        connected = len(site.daemon.said("event=connected"))
        heal()
        # What was under way when the cable went may come before that.
        site.daemon.wait_log("event=connected", times=connected + 1)
        site.wait_records("snow-2", 2)
        assert site.stop() == 0
        site.close_account()
