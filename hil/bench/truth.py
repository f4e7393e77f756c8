"""Fifty gateways and the city's consumers, all of them struck again and again.

Gateways are cut off in the midst of a message, killed, cloned, restored from an old card, and give
records up; two processes of `yukimi-city` and their PostgreSQL are killed meanwhile. In the end
every row must be there once, as it was committed: what differs is printed, and the exit code is 1.
The tests run a small one. Needs Mosquitto and PostgreSQL.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import SystemRandom

from ..broker import Mosquitto
from ..city.databases import opened
from ..far_end import FarEnd
from ..postgres import Postgres, binaries
from ..senders.trial import Fleet, hold

BROKER_OPTIONS = ("log_type none", "max_queued_messages 0", "max_inflight_messages 200")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--gateways", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--strikes", type=int, default=30)
    parser.add_argument("--seed", type=int, help="default: a new one, which is printed")


def run(arguments: argparse.Namespace) -> int:
    """Let it happen; 1 where the database is not the truth."""
    if binaries() is None:
        print("no PostgreSQL: apt install postgresql", file=sys.stderr)
        return 69
    seed = SystemRandom().getrandbits(16) if arguments.seed is None else arguments.seed
    print(f"seed {seed}")
    with Mosquitto(extra=BROKER_OPTIONS) as broker, Postgres() as server:

        def crash() -> None:
            server.kill()
            server.start()

        url = f"mqtt://{broker.host}:{broker.port}"
        with (
            FarEnd(url, server.url, instance="1") as first,
            FarEnd(url, server.url, instance="2") as second,
        ):
            first.wait_connected()
            second.wait_connected()
            fleet = Fleet(
                broker.host,
                broker.port,
                gateways=arguments.gateways,
                rounds=arguments.rounds,
                seed=seed,
            )
            began_s = time.monotonic()
            found = hold(
                fleet,
                [first, second],
                server.url,
                seed=seed,
                strikes=arguments.strikes,
                mishaps=[crash],
            )
        with opened(server.url, read_only=True) as store:
            sql = "SELECT sum(produced), sum(delivered), sum(lost), sum(missing) FROM account"
            ((produced, delivered, lost, missing),) = store.query(sql)
    print("\n".join(found) or "The database is the truth.")
    print(
        f"{arguments.gateways} gateways, {arguments.strikes} strikes,"
        f" {time.monotonic() - began_s:.0f} s: produced {produced} = delivered {delivered}"
        f" + lost {lost} + missing {missing}"
    )
    return 1 if found else 0
