"""A configuration from afar: the same trial as on the spot, and less that it may change.

Who may sign is trusted with how the gateway measures and where it sends to. What guards citizens,
the way in and the way to the broker is for somebody who is there: a key that is stolen must not
open more than it was made for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from agent.answers import AskError
from agent.applied import Entry
from agent.applying import SIGNER, within_s_of
from agent.plan import Plan, PlannedSensor
from agent.trials import Trials, told
from config.exact import fraction

from .command import Command, RefusedError
from .done import Reply

ON_THE_SPOT = "that is for somebody at the gateway"
ARGUMENTS = {"toml", "document", "within_s"}
# Where Debian keeps the authorities that everybody trusts; those added by hand are in /usr/local.
PUBLIC = ("/etc/ssl", "/usr/lib/ssl", "/usr/share/ca-certificates")


class Applying:
    """Takes configurations from afar, and knows what came of each."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    def __call__(self, command: Command, by: str) -> dict[str, Any]:
        """Begin a trial; return what is answered. Raises RefusedError."""
        unknown = command.arguments.keys() - ARGUMENTS
        if unknown:
            raise RefusedError("wrong_argument", f"unknown: {', '.join(sorted(unknown))[:100]}")
        try:
            return self._trials.submit(
                _document(command.arguments),
                by=SIGNER + by,
                origin=f"command {command.id}",
                within_s=within_s_of(command.arguments),
                command=command.id,
                refuse=lambda running, new: list(beyond(running, new)),
            )
        except AskError as exc:
            is_wrong = exc.code == "wrong_argument"
            raise RefusedError("wrong_argument" if is_wrong else "failed", str(exc.text)) from exc

    def reply_to(self, id_: str) -> Reply | None:
        """Return how the trial stands that was asked for under this id; None: there was none."""
        found = [each for each in self._trials.entries() if each.command == id_]
        return _reply(found[-1]) if found else None


def apply_with(trials: Trials) -> Applying:
    """Return what takes configurations from afar."""
    return Applying(trials)


def _reply(entry: Entry) -> Reply:
    if entry.outcome in ("trial", "confirmed"):
        return {"ok": True, "answer": told(entry)}
    return {"ok": False, "error": {"code": entry.outcome, "text": str(entry.why)}}


def _document(arguments: Mapping[str, Any]) -> dict[str, Any]:
    text, document = arguments.get("toml"), arguments.get("document")
    if isinstance(text, str) and document is None:
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as exc:  # 5,000 digits are a plain one
            raise RefusedError("wrong_argument", f"toml: {exc}") from exc
    if isinstance(document, dict) and text is None:
        return document
    raise RefusedError("wrong_argument", "give toml, a text, or document, an object")


def beyond(running: Plan, new: Plan) -> Iterator[str]:
    """Name everything that must not be changed from afar, and is."""
    old, now = running.loaded.config, new.loaded.config
    yield from _looser(old.privacy.model_dump(), now.privacy.model_dump(), "privacy")
    if old.commands != now.commands:
        yield f"[commands] is not changed from afar: {ON_THE_SPOT}"
    # As whoever connects reads them: "MQTT://" and "\tmqtt://" are as plain.
    plain = [url for url in now.uplink.brokers if urlsplit(url).scheme != "mqtts"]
    if any(url not in old.uplink.brokers for url in plain):
        yield f"[uplink] brokers: no connection loses its TLS from afar: {ON_THE_SPOT}"
    added = set(now.uplink.brokers) - set(old.uplink.brokers)
    if added and not _has_own_authority(running):
        yield (
            "[uplink] brokers: another broker is named from afar only where an authority of your"
            " own vouches for it, else anybody with a public certificate gets the password: set"
            f" [uplink.tls] ca_file to its certificate first; {ON_THE_SPOT}"
        )
    if old.uplink.tls.ca_file != now.uplink.tls.ca_file:
        yield f"[uplink.tls] ca_file says whom to trust: {ON_THE_SPOT}"
    # What hears or sees people for a driver that draws noise tells another one each crossing.
    sensors = {sensor.table.id: sensor for sensor in new.sensors}
    for sensor in running.sensors:
        if sensor.counts_real_people and not _is_as_wired(sensor, sensors.get(sensor.table.id)):
            name = sensor.table.id
            yield f"{name} counts people: its driver, bus and options are kept: {ON_THE_SPOT}"
    # With another file for a password any file could be sent to another broker.
    files = {
        "[uplink] password_file": (old.uplink.password_file, now.uplink.password_file),
        "[uplink.tls] cert_file": (old.uplink.tls.cert_file, now.uplink.tls.cert_file),
        "[uplink.tls] key_file": (old.uplink.tls.key_file, now.uplink.tls.key_file),
    }
    for name, (before, after) in files.items():
        if before != after:
            yield f"{name} names a secret: {ON_THE_SPOT}"


def _has_own_authority(running: Plan) -> bool:
    """Whether brokers are vouched for by less than the whole world's authorities."""
    name = running.loaded.config.uplink.tls.ca_file
    if name is None:
        return False
    file = running.loaded.file(name).resolve()
    return not any(file.is_relative_to(folder) for folder in PUBLIC)


def _is_as_wired(before: PlannedSensor, after: PlannedSensor | None) -> bool:
    return after is not None and (
        (before.driver, before.options, before.bus.kind, before.bus.path)
        == (after.driver, after.options, after.bus.kind, after.bus.path)
    )


_TIGHTER: dict[str, Callable[[Any, Any], bool]] = {
    "privacy.flow.window_s": lambda old, new: new >= old,
    "privacy.flow.epsilon": lambda old, new: fraction(new) <= fraction(old),
    "privacy.day_limit": lambda old, new: fraction(new) <= fraction(old),
}


def _looser(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> Iterator[str]:
    """Name what is said about people with less protection; of what is not known, any change."""
    for key in old.keys() | new.keys():
        path, before, after = f"{where}.{key}", old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _looser(before, after, path)
        elif before != after and not _TIGHTER.get(path, lambda _old, _new: False)(before, after):
            yield (
                f"{path}: {after} instead of {before} would loosen the privacy policy, which is "
                "never done from afar; only tightening is"
            )
