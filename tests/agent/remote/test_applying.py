"""A configuration from afar: what it may not change, and how its end is told."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import applied
from agent.applied import Applied, Entry
from agent.health import Health
from agent.plan import Plan, load_plan, plan_of
from agent.remote import applying as remote_applying
from agent.remote.applying import Applying, beyond
from agent.remote.command import Command, RefusedError
from agent.trials import Trials

TEXT = """
[gateway]
id = "chikaho-03"
[uplink]
brokers = ["mqtts://broker.example", "mqtt://inside.example"]
username = "gw"
password_file = "secret"
[uplink.tls]
ca_file = "secret"
[spool]
path = "{folder}/spool.db"
[privacy]
day_limit = "3/8"
[privacy.flow]
window_s = 900
epsilon = "1/4"
[commands]
allow = ["ping", "config-apply"]
allowed_signers = "secret"
[[buses]]
id = "sim"
kind = "simulated"
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "sim"
[sensors.options]
mount_height_cm = 350.0
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    for name in ("secret", "other"):
        (tmp_path / name).touch()
    path = tmp_path / "gateway.toml"
    path.write_text(TEXT.format(folder=tmp_path), "utf-8")
    return path


@pytest.fixture
def running(config: Path) -> Plan:
    return load_plan(config)


@pytest.fixture
def trials(config: Path, running: Plan) -> Trials:
    """Of a gateway at which all is well."""
    trials = Trials(config, lambda: None)
    health = Health()
    health.uplink.broker = "mqtts://broker.example"
    trials.runs(running, config.parent / "spool.db", health)
    return trials


@pytest.fixture
def applying(trials: Trials) -> Applying:
    return Applying(trials)


def changed(running: Plan, change: Callable[[dict[str, Any]], object]) -> Plan:
    document = tomllib.loads(running.loaded.path.read_text("utf-8"))
    change(document)
    return plan_of(document, running.loaded.path, running.loaded.origins)


REFUSED: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "more epsilon": (
        "privacy.flow.epsilon",
        lambda d: d["privacy"]["flow"].update(epsilon="3/8"),
    ),
    "shorter windows": (
        "privacy.flow.window_s",
        lambda d: d["privacy"]["flow"].update(window_s=600),
    ),
    "a larger limit": ("privacy.day_limit", lambda d: d["privacy"].update(day_limit="1/1")),
    "more commands": ("[commands]", lambda d: d["commands"]["allow"].append("restart")),
    "fewer commands": ("[commands]", lambda d: d["commands"]["allow"].remove("ping")),
    "other signers": ("[commands]", lambda d: d["commands"].update(allowed_signers="other")),
    "no TLS": ("TLS", lambda d: d["uplink"].update(brokers=["mqtt://broker.example"])),
    "no TLS, in capitals": ("TLS", lambda d: d["uplink"].update(brokers=["MQTT://broker.example"])),
    "no TLS, after a tab": ("TLS", lambda d: d["uplink"].update(brokers=["\tmqtt://a.example"])),
    "another authority": ("ca_file", lambda d: d["uplink"]["tls"].update(ca_file="other")),
    "no authority": ("ca_file", lambda d: d["uplink"]["tls"].pop("ca_file")),
    "another password": ("password_file", lambda d: d["uplink"].update(password_file="other")),
}

ALLOWED: dict[str, Callable[[dict[str, Any]], object]] = {
    "less epsilon": lambda d: d["privacy"]["flow"].update(epsilon="1/8"),
    "the same epsilon": lambda d: d["privacy"]["flow"].update(epsilon="2/8"),
    "longer windows": lambda d: d["privacy"]["flow"].update(window_s=3600),
    "a smaller limit": lambda d: d["privacy"].update(day_limit="1/4"),
    "its default": lambda d: d["privacy"].pop("day_limit"),
    "another broker": lambda d: d["uplink"].update(brokers=["mqtts://other.example"]),
    "one fewer": lambda d: d["uplink"].update(brokers=["mqtt://inside.example"]),
    "another height": lambda d: d["sensors"][0]["options"].update(mount_height_cm=300.0),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_guards_citizens_and_the_way_in_is_not_changed_from_afar(
    running: Plan, what: str
) -> None:
    told, change = REFUSED[what]
    refusals = list(beyond(running, changed(running, change)))
    assert refusals
    assert any(told in each for each in refusals)


OTHERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another": lambda d: d["uplink"].update(brokers=["mqtts://other.example"]),
    "one more": lambda d: d["uplink"]["brokers"].append("mqtts://other.example"),
    "another port": lambda d: d["uplink"].update(brokers=["mqtts://broker.example:443"]),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("authority", ["", 'ca_file = "public.pem"'], ids=["none", "public"])
def test_a_broker_for_whom_anybody_may_vouch_is_not_named_from_afar(
    config: Path, what: str, authority: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = config.parent / "ssl/certs/everybody.pem"
    public.parent.mkdir(parents=True)
    public.touch()
    (config.parent / "public.pem").symlink_to(public)
    monkeypatch.setattr(remote_applying, "PUBLIC", (config.parent / "ssl",))
    config.write_text(config.read_text("utf-8").replace('ca_file = "secret"', authority), "utf-8")
    running = load_plan(config)
    refusals = list(beyond(running, changed(running, OTHERS[what])))
    assert ["set [uplink.tls] ca_file" in each for each in refusals] == [True]
    fewer = changed(running, lambda d: d["uplink"]["brokers"].reverse())
    assert list(beyond(running, fewer)) == []


@pytest.mark.parametrize("what", ALLOWED)
def test_tightening_and_all_else_is_allowed(running: Plan, what: str) -> None:
    assert list(beyond(running, changed(running, ALLOWED[what]))) == []


COUNTER = """
[[sensors]]
id = "door-1"
driver = "pulse-counter"
bus = "gpio"
[sensors.options]
pin = 17
"""
NO_COUNTER: dict[str, Callable[[dict[str, Any]], object]] = {
    "as a door, whose edges are told": lambda d: d["sensors"][1].update(
        driver="contact", options={"pin": 17, "measures": "open"}
    ),
    "as a door under another id": lambda d: d["sensors"][1].update(
        id="door-2", driver="contact", options={"pin": 17, "measures": "open"}
    ),
    "gone, for another command to come": lambda d: d["sensors"].pop(1),
    "on another pin": lambda d: d["sensors"][1].update(options={"pin": 18}),
}


@pytest.mark.parametrize("what", NO_COUNTER)
def test_what_counts_people_counts_on_as_it_is_wired(config: Path, what: str) -> None:
    config.write_text(config.read_text("utf-8") + COUNTER, "utf-8")
    running = load_plan(config)
    (refusal,) = beyond(running, changed(running, NO_COUNTER[what]))
    assert "door-1 counts people" in refusal


def test_what_else_is_said_of_a_people_sensor_may_change(config: Path) -> None:
    config.write_text(config.read_text("utf-8") + COUNTER, "utf-8")
    running = load_plan(config)
    named = changed(running, lambda d: d["sensors"][1].update(label={"en": "West door"}))
    assert list(beyond(running, named)) == []


def test_a_limit_below_its_default_is_not_removed(config: Path) -> None:
    config.write_text(config.read_text("utf-8").replace('"3/8"', '"1/4"'), "utf-8")
    looser = changed(load_plan(config), lambda d: d["privacy"].pop("day_limit"))
    assert "day_limit" in next(beyond(load_plan(config), looser))


def test_one_beyond_that_is_refused_as_a_whole_and_says_all_of_it(
    applying: Applying, config: Path
) -> None:
    text = config.read_text("utf-8").replace('"1/4"', '"3/8"').replace('["ping", ', "[")
    with pytest.raises(RefusedError, match=r"epsilon(.|\n)*commands"):
        applying(Command("config-apply", "1", {"toml": text}, None), "mika")
    assert applied.find(config).entries()[-1].outcome == "refused"


def test_another_gateway_it_never_becomes(applying: Applying, config: Path) -> None:
    text = config.read_text("utf-8").replace("chikaho-03", "chikaho-04")
    with pytest.raises(RefusedError, match=r"\[gateway\] id"):
        applying(Command("config-apply", "1", {"toml": text}, None), "mika")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"toml": "[["},
        {"toml": "", "document": {}},
        {"document": []},
        {"toml": "", "force": True},
        {"document": {}, "within_s": 1e9},
    ],
)
def test_what_makes_no_sense_is_refused(applying: Applying, arguments: dict[str, Any]) -> None:
    with pytest.raises(RefusedError) as refused:
        applying(Command("config-apply", "1", arguments, None), "mika")
    assert refused.value.why == "wrong_argument"


def test_its_end_is_known_by_the_commands_id(applying: Applying, config: Path) -> None:
    text = config.read_text("utf-8").replace("350.0", "300.0")
    answer = applying(Command("config-apply", "one", {"toml": text}, None), "mika")
    assert (answer["outcome"], answer["by"]) == ("trial", "signer:mika")
    book: Applied = applied.find(config)
    entry: Entry = book.entries()[-1]
    assert entry.command == "one"
    assert applying.reply_to("another") is None
    for outcome, is_ok in (("trial", True), ("confirmed", True), ("returned", False)):
        book.write(replace(entry, outcome=outcome))  # type: ignore[arg-type]
        reply = applying.reply_to("one")
        assert reply is not None
        assert reply["ok"] == is_ok


@pytest.mark.parametrize("by", ["mika", None])
def test_from_afar_the_connection_is_asked_for_though_it_was_down_just_then(
    trials: Trials, running: Plan, monkeypatch: pytest.MonkeyPatch, by: str | None
) -> None:
    monkeypatch.setattr("agent.trials.SETTLED_S", 0.0)
    trials.runs(running, running.loaded.path.parent / "spool.db", down := Health())
    text = running.loaded.path.read_text("utf-8").replace("350.0", "300.0")
    if by is None:  # the control: on the spot nothing is asked for that was not there
        trials.submit(tomllib.loads(text), by="local:root")
    else:
        Applying(trials)(Command("config-apply", "1", {"toml": text}, None), by)
    assert trials.trial is not None
    assert bool(trials.trial.before.missing(down, 5.0)) is (by is not None)


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000], ids=["decimal", "hexadecimal"])
def test_a_number_of_5000_digits_is_the_senders_mistake(applying: Applying, digits: str) -> None:
    with pytest.raises(RefusedError) as caught:
        applying(Command("config-apply", "1", {"toml": f"x = {digits}"}, None), "mika")
    assert caught.value.why in ("wrong_argument", "failed")
    assert "digits" in str(caught.value) or "64 bits" in str(caught.value)
