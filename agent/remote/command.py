"""One command: what may be written to `cmd/VERB/ID`, and what is refused before anything runs.

Pure: the time is an argument, and a signature is only looked for here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from agent.record import utc_ns
from config.model import SIGNED_VERBS, Verb

SCHEMA = "yukimi.command/1"
SIGNED_SCHEMA = "yukimi.signed-command/1"
MOST_BYTES = 65_536  # of a message; a configuration fits in
LONGEST_NS = 24 * 3600 * 10**9  # between issue and expiry: for so long an id is remembered
AHEAD_NS = 60 * 10**9  # how far in the future something may have been issued: clocks differ

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEYS = {"schema", "gateway", "verb", "id", "issued", "expires", "arguments"}

Why = Literal[
    "not_allowed", "malformed", "too_large", "retained", "wrong_gateway", "expired", "time_unknown",
    "not_signed", "wrong_signature", "too_many", "busy", "repeated", "wrong_argument", "failed",
]  # fmt: skip


class RefusedError(Exception):
    """A command that is not done: a reason for programs and one for people."""

    def __init__(self, why: Why, text: str, *, again_in_s: int | None = None) -> None:
        super().__init__(text)
        self.why = why
        self.again_in_s = again_in_s  # None: it is of no use to wait

    def json(self) -> dict[str, Any]:
        """Return it as a reply tells it."""
        told: dict[str, Any] = {"code": self.why, "text": str(self)}
        return told if self.again_in_s is None else {**told, "again_in_s": self.again_in_s}


@dataclass(frozen=True, slots=True)
class Command:
    """What is asked, by whom; `signed` holds what a signature must be of."""

    verb: Verb
    id: str
    arguments: Mapping[str, Any]
    expires_ns: int | None
    signed: Signed | None = None

    @property
    def must_be_signed(self) -> bool:
        """Whether it changes anything."""
        return self.verb in SIGNED_VERBS


@dataclass(frozen=True, slots=True)
class Signed:
    """A text and the signature that is said to be of it, as OpenSSH writes one."""

    text: bytes
    signature: bytes


def is_id(text: str) -> bool:
    """Tell whether it can be the id of a command."""
    return _ID.fullmatch(text) is not None


def parsed(verb: Verb, id_: str, payload: bytes, *, gateway: str, now_ns: int | None) -> Command:
    """Read a command; `now_ns` is UTC, None while the time is not known. Raises RefusedError.

    A verb that only looks may come with an empty payload. All that stands in the topic must stand
    in the text, too, where there is one: what is signed for one gateway and verb is for no other.
    """
    signed: Signed | None = None
    if not payload.strip() and verb not in SIGNED_VERBS:
        return Command(verb, id_, {}, None)
    document = _object(payload)
    if document.get("schema") == SIGNED_SCHEMA:
        text, signature = document.get("command"), document.get("signature")
        if set(document) != {"schema", "command", "signature"} or not (
            isinstance(text, str) and isinstance(signature, str)
        ):
            raise RefusedError("malformed", "a signed command has schema, command and signature")
        signed = Signed(text.encode(), signature.encode())
        document = _object(signed.text)
    command = _of(document, verb, id_, gateway, signed)
    if command.must_be_signed and signed is None:
        raise RefusedError("not_signed", f"{verb} must be signed")
    _check_times(document, command, now_ns)
    return command


def _object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
        # Half of a surrogate pair, "\ud800", is JSON and no text: no answer can hold it.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise RefusedError("malformed", "not JSON") from exc
    if not isinstance(document, dict):
        raise RefusedError("malformed", "not a JSON object")
    return document


def _of(
    document: Mapping[str, Any], verb: Verb, id_: str, gateway: str, signed: Signed | None
) -> Command:
    unknown = document.keys() - _KEYS
    if unknown:
        raise RefusedError("malformed", f"unknown: {', '.join(sorted(unknown))[:100]}")
    if document.get("schema") != SCHEMA:
        raise RefusedError("malformed", f"schema must be {SCHEMA}")
    if document.get("gateway") != gateway:
        raise RefusedError("wrong_gateway", "it is for another gateway")
    if document.get("verb") != verb or document.get("id") != id_:
        raise RefusedError("malformed", "verb and id must be those of the topic")
    arguments = document.get("arguments", {})
    if not isinstance(arguments, dict):
        raise RefusedError("malformed", "arguments must be an object")
    expires = document.get("expires")
    return Command(verb, id_, arguments, None if expires is None else _time(expires), signed)


def _check_times(document: Mapping[str, Any], command: Command, now_ns: int | None) -> None:
    issued = document.get("issued")
    if command.must_be_signed:
        if issued is None or command.expires_ns is None:
            raise RefusedError("malformed", f"{command.verb} needs issued and expires")
        if now_ns is None:
            raise RefusedError("time_unknown", "the gateway does not know the time yet")
        lasts_ns = command.expires_ns - _time(issued)
        if not 0 < lasts_ns <= LONGEST_NS:
            raise RefusedError("malformed", "expires must be within 24 hours after issued")
        if _time(issued) > now_ns + AHEAD_NS:
            raise RefusedError("expired", "it was issued in the future: compare the clocks")
    if command.expires_ns is not None and now_ns is not None and now_ns >= command.expires_ns:
        raise RefusedError("expired", "it has expired")


def _time(text: object) -> int:
    try:
        return utc_ns(str(text))
    except ValueError as exc:
        raise RefusedError("malformed", "a time is written 2027-01-15T00:10:00.000Z") from exc
