"""Commands through a real broker to a real daemon: what is allowed is done, nothing else is."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.agent.remote.orders import Signer, text_of, utc
from tests.e2e.conftest import GATEWAY, Site

ROOT = f"yukimi/v1/{GATEWAY}"


@contextmanager
def publisher(site: Site) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", site.broker.port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def configure(site: Site, allow: list[str]) -> None:
    path = site.configure()
    signers = site.folder / "allowed_signers"
    commands = f'[commands]\nallow = {json.dumps(allow)}\nallowed_signers = "allowed_signers"\n'
    signers.touch(mode=0o644)
    # Before the first list of tables.
    text = path.read_text("utf-8")
    at = text.index("[[")
    path.write_text(text[:at] + commands + "\n" + text[at:], "utf-8")


def replies(site: Site) -> dict[str, dict[str, Any]]:
    """Return what was answered, by VERB/ID."""
    return {
        each.topic.removeprefix("reply/"): json.loads(each.payload)
        for each in list(site.heard)
        if each.topic.startswith("reply/")
    }


def order(signer: Signer, verb: str, id_: str, **arguments: object) -> bytes:
    now = datetime.now(UTC)
    text = text_of(
        verb,
        id_,
        gateway=GATEWAY,
        issued=utc(now),
        expires=utc(now + timedelta(minutes=10)),
        arguments=arguments,
    )
    return signer.order(text)


@pytest.fixture(scope="module")
def mika(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(tmp_path_factory.mktemp("keys"), "mika")


def test_a_gateway_is_looked_at_and_worked_at_from_afar(site: Site, mika: Signer) -> None:
    configure(site, ["ping", "status", "config-get", "maintenance", "set-log-level", "restart"])
    (site.folder / "allowed_signers").write_text(mika.line())
    site.start()
    site.wait_records("snow-2", 1)
    with publisher(site) as client:
        for topic, payload in (
            ("ping/1", b""),
            ("status/1", b""),
            ("config-get/1", b""),
            ("maintenance/1", order(mika, "maintenance", "1", sensor="snow-2", for_s=3600)),
            ("set-log-level/1", order(mika, "set-log-level", "1", level="debug", for_s=60)),
        ):
            client.publish(f"{ROOT}/cmd/{topic}", payload, qos=1)
            site.wait_until(lambda topic=topic: topic in replies(site), f"reply to {topic}")
        told = replies(site)
        assert all(each["ok"] for each in told.values()), told
        assert told["status/1"]["answer"]["gateway"]["id"] == GATEWAY
        assert told["config-get/1"]["answer"]["document"]["gateway"]["id"] == GATEWAY
        site.wait_until(
            lambda: any(
                "maintenance" in each["quality"].get("reasons", ())
                for each in site.records("snow-2")
            ),
            "a record that says that somebody works there",
        )
        assert told["set-log-level/1"]["answer"]["then"] == "info"
        first = site.spooled().run
        restart = order(mika, "restart", "1")
        client.publish(f"{ROOT}/cmd/restart/1", restart, qos=1)
        site.wait_until(lambda: site.spooled().run not in ("", first), "another life")
        second = site.spooled().run
        site.wait_online()  # it listens again
        client.publish(f"{ROOT}/cmd/restart/1", restart, qos=1)  # a replay restarts nothing
        client.publish(f"{ROOT}/cmd/ping/2", b"", qos=1)
        site.wait_until(lambda: "ping/2" in replies(site), "an answer after the replay")
        assert site.spooled().run == second
    assert site.stop() == 0
    site.produced[first] = site.start_records()[second]["previous"]["produced"]
    site.close_account()
    audited = [each["values"] for each in site.records("gateway")]
    assert [
        (each["verb"], each["by"], each["outcome"])
        for each in audited
        if each["event"] == "command"
    ] == [
        (verb, "mika", outcome)
        for verb in ("maintenance", "set-log-level", "restart")
        for outcome in ("begun", "done")
    ]


def test_a_broker_that_was_taken_over_changes_nothing_and_costs_nothing(
    site: Site, mika: Signer
) -> None:
    """Ten thousand commands, as fast as the broker carries them: noise, copies, huge ones."""
    configure(site, ["ping", "restart", "maintenance"])
    (site.folder / "allowed_signers").write_text("")  # nobody may
    site.start()
    site.wait_records("snow-2", 1)
    run = site.spooled().run
    noise = random.Random(5)
    signed = order(mika, "restart", "1")
    before_kb = site.rss_kb()
    with publisher(site) as client:
        for number in range(10_000):
            verb = noise.choice(("ping", "restart", "maintenance", "explode", "status"))
            payload = noise.choice(
                (b"", signed, noise.randbytes(300), b"[" * 5000, b"x" * 100_000, b'{"schema": 1}')
            )
            client.publish(f"{ROOT}/cmd/{verb}/{number}", payload, qos=1)
            if number % 200 == 0:  # else the broker drops what the city does not take in time
                site.wait_until(
                    lambda number=number: any(
                        each.topic.endswith(f"/{number}") for each in site.heard[-1000:]
                    ),
                    f"command {number}",
                )
        client.publish(f"{ROOT}/cmd/restart/kept", signed, qos=1, retain=True).wait_for_publish(60)
        client.publish(f"{ROOT}/cmd/restart/kept", b"", qos=1, retain=True).wait_for_publish(60)
    count = len(site.records("snow-2"))
    site.wait_records("snow-2", count + 3)  # it goes on
    assert site.rss_kb() - before_kb < 16_384
    assert site.spooled().run == run
    told = replies(site)
    assert {verb.partition("/")[0] for verb, each in told.items() if each["ok"]} <= {"ping"}
    assert site.stop() == 0
    site.close_account()
    # What is told at the stop leaves with the next life.
    site.start()
    site.wait_online()
    assert site.stop() == 0
    site.close_account()
    values = [each["values"] for each in site.records("gateway")]
    assert not any(each["event"] == "command" for each in values)
    counts = [each["counts"] for each in values if each["event"] == "commands"]
    assert 1 <= len(counts) <= 3
    refused = sum(sum(each.values()) - each.get("answered", 0) for each in counts)
    assert refused > 1_000  # and what came too fast was let go


def outcomes(site: Site) -> list[str]:
    return [
        each["values"]["outcome"]
        for each in site.records("gateway")
        if each["values"]["event"] == "command"
    ]


def test_a_configuration_from_afar_is_tried_and_its_end_is_told(site: Site, mika: Signer) -> None:
    site.environment["STATE_DIRECTORY"] = str(site.folder / "state")
    configure(site, ["ping", "config-apply"])
    (site.folder / "allowed_signers").write_text(mika.line())
    text = (site.folder / "gateway.toml").read_text("utf-8")
    site.start()
    site.wait_records("snow-2", 2)
    site.wait_until(
        lambda: bool(site.statuses()) and site.statuses()[-1]["state"] == "online", "the birth"
    )
    first = site.statuses()[-1]["config"]
    good = order(mika, "config-apply", "good", toml=text.replace('"Bench"', '"Other"'))
    bad = text.replace(site.url, "mqtt://127.0.0.1:1")
    worse = order(mika, "config-apply", "worse", toml=bad, within_s=5)
    # It connects, and nobody takes what it sends.
    dead = text.replace("[uplink]\n", '[uplink]\ntopic_root = "nobody/listens"\n')
    returning = order(mika, "config-apply", "dead", toml=dead, within_s=5)

    def told(client: mqtt.Client, name: str, payload: bytes) -> dict[str, Any]:
        before = len([each for each in site.heard if each.topic == f"reply/config-apply/{name}"])
        client.publish(f"{ROOT}/cmd/config-apply/{name}", payload, qos=1)
        found: list[dict[str, Any]] = []

        def came() -> bool:
            found[:] = [
                json.loads(each.payload)
                for each in list(site.heard)
                if each.topic == f"reply/config-apply/{name}"
            ]
            return len(found) > before

        site.wait_until(came, f"the reply to {name}")
        return found[-1]

    with publisher(site) as client:
        refused = told(client, "worse", worse)
        assert "TLS" in refused["error"]["text"]
        assert site.statuses()[-1]["config"] == first

        assert told(client, "good", good)["answer"]["outcome"] == "trial"
        site.wait_until(lambda: outcomes(site)[-1:] == ["done"], "the end of the good one")
        assert told(client, "good", good)["answer"]["outcome"] == "confirmed"
        second = site.statuses()[-1]["config"]
        assert second != first

        assert told(client, "dead", returning)["answer"]["outcome"] == "trial"
        site.wait_until(lambda: outcomes(site)[-1:] == ["returned"], "the end of the other")
        again = told(client, "dead", returning)
        assert again["error"]["code"] == "returned"
        assert "took no record" in again["error"]["text"]
        assert site.statuses()[-1]["config"] == second
    assert outcomes(site) == ["begun", "failed", "begun", "done", "begun", "returned"]
    assert site.stop() == 0
