"""A network of its own, seen by a process inside it; the kernel's TCP at both ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from hil.faults.ext4 import UnavailableError
from hil.faults.namespace import Namespace
from hil.faults.ongoing import Heal
from hil.faults.resolver import Resolver

NAME = "broker.sapporo.example"
WAIT_S = 30.0

# Connects to a server outside, and prints how it went.
_ASK = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3])).close()
    print("through")
except OSError as exc:
    print(type(exc).__name__)
"""
_RESOLVE = """
import socket, sys
try:
    print(socket.getaddrinfo(sys.argv[1], 1883, socket.AF_INET)[0][4][0])
except socket.gaierror as exc:
    print(exc.errno == socket.EAI_AGAIN and "again" or "no such name")
"""


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    try:
        namespace = Namespace()
    except UnavailableError as exc:
        pytest.skip(str(exc))
    with namespace:
        yield namespace


def inside(namespace: Namespace, program: str, *arguments: str) -> str:
    said = subprocess.run(
        [*namespace.prefix, sys.executable, "-c", program, *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    return said.stdout.strip()


@pytest.mark.parametrize(
    ("begin", "seen"),
    [
        (lambda ns: ns.unplug(), {"TimeoutError", "OSError"}),
        (lambda ns: ns.lose(1.0), {"TimeoutError", "PermissionError"}),
    ],
    ids=["unplugged", "all lost"],
)
def test_what_is_wrong_with_the_cable_is_seen_inside_until_it_is_healed(
    namespace: Namespace, begin: Callable[[Namespace], Heal], seen: set[str]
) -> None:
    with socket.create_server((namespace.outside, 0)) as server:
        where = (namespace.outside, str(server.getsockname()[1]))
        assert inside(namespace, _ASK, *where, "20") == "through"
        heal = begin(namespace)
        assert inside(namespace, _ASK, *where, "1.5") in seen
        heal()
        assert inside(namespace, _ASK, *where, "20") == "through"


def test_a_throttled_cable_takes_its_time(namespace: Namespace) -> None:
    heal = namespace.throttle(20_000)
    assert "tbf" in inside_tc(namespace)
    heal_more = namespace.throttle(10_000)
    assert "80Kbit" in inside_tc(namespace)
    heal_more()
    assert "160Kbit" in inside_tc(namespace)
    heal()
    assert "tbf" not in inside_tc(namespace)


def inside_tc(namespace: Namespace) -> str:
    return subprocess.run(
        [*namespace.prefix, "tc", "qdisc", "show"], check=True, capture_output=True, text=True
    ).stdout


def test_a_name_server_answers_falls_silent_forgets_and_answers_again(
    namespace: Namespace,
) -> None:
    with Resolver(namespace.outside, {NAME: namespace.outside}) as resolver:
        assert inside(namespace, _RESOLVE, NAME) == namespace.outside
        heal = resolver.silence()
        assert inside(namespace, _RESOLVE, NAME) == "again"
        heal()
        heal = resolver.forget()
        assert inside(namespace, _RESOLVE, NAME) == "no such name"
        heal()
        assert inside(namespace, _RESOLVE, NAME) == namespace.outside
        assert inside(namespace, _RESOLVE, "brocker.sapporo.example") == "no such name"
        assert resolver.asked >= 5
