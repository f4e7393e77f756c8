"""Secrets: removed by structure, by value in every form, and by shape; what remains is found."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.redaction import REMOVED, LeakError, Secrets, names_secret, redacted

SECRET = 'tr0ub4dor & "3"/雪?'

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda s: s,
    "percent-encoded": quote,
    "percent-encoded in lower case": lambda s: re.sub(
        "%..", lambda found: found[0].lower(), quote(s, safe="")
    ),
    "base64": lambda s: b64encode(s.encode()).decode(),
    "base64 of user and password": lambda s: b64encode(f"gw-7:{s}".encode()).decode(),
    "base64 one further": lambda s: b64encode(f"gw-07:{s} and more".encode()).decode(),
    "base64 two further": lambda s: b64encode(f"gw-007:{s}!".encode()).decode(),
    "base64 for URLs": lambda s: urlsafe_b64encode(s.encode()).decode(),
    "hexadecimal": lambda s: s.encode().hex(),
    "as JSON has it": lambda s: json.dumps({"password": s}),
    "as JSON in ASCII has it": lambda s: json.dumps([s], ensure_ascii=True),
    "as HTML has it": escape,
}


@pytest.fixture
def secrets() -> Secrets:
    found = Secrets()
    found.add(SECRET, "uplink.password_file")
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_any_form(secrets: Secrets, form: str) -> None:
    content = f"a line before\n{FORMS[form](SECRET)}\nand one after".encode()
    with pytest.raises(LeakError, match=r"uplink\.password_file") as told:
        secrets.check("journal.txt", content)
    assert SECRET not in str(told.value)
    assert "journal.txt" in str(told.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_removed_in_any_form(secrets: Secrets, form: str) -> None:
    scrubbed = secrets.scrub(f"before {FORMS[form](SECRET)} after")
    secrets.check("journal.txt", scrubbed.encode())
    assert scrubbed.startswith("before ")
    assert REMOVED in scrubbed


@given(
    st.text(min_size=4, max_size=40).filter(lambda text: len(text.strip()) >= 4),
    st.binary(max_size=7),
    st.binary(max_size=7),
)
def test_any_secret_is_found_within_any_base64(secret: str, before: bytes, after: bytes) -> None:
    secrets = Secrets()
    secrets.add(secret, "somewhere")
    raw = secret.strip().encode("utf-8", errors="surrogateescape")
    with pytest.raises(LeakError):
        secrets.check("a", b64encode(before + raw + after))


@given(st.text(min_size=4).filter(lambda text: len(text.strip()) >= 4), st.text(), st.text())
def test_what_is_scrubbed_holds_no_secret(secret: str, before: str, after: str) -> None:
    secrets = Secrets()
    secrets.add(secret, "somewhere")
    if secret.strip() in REMOVED:
        return
    scrubbed = secrets.scrub(f"{before}{secret}{after}")
    assert secret.strip() not in scrubbed.replace(REMOVED, "\0")


def test_what_holds_none_passes(secrets: Secrets) -> None:
    secrets.check("journal.txt", b"gateway started")
    assert secrets.scrub("gateway started: 3 sensors") == "gateway started: 3 sensors"


def test_a_configuration_loses_what_its_structure_shows_to_be_secret() -> None:
    document = {
        "uplink": {
            "brokers": ["mqtts://gw:hunter2@broker.example:8883", "mqtt://other.example"],
            "username": "gw",
            "password": "hunter2",
            "password_file": "broker-password",
            "tls": {"key": "MIIE…", "ca_file": "ca.pem"},
        },
        "sensors": [{"id": "snow-1", "options": {"api_token": 12345678, "pin_a": 17}}],
    }
    said = redacted(document)
    assert "hunter2" not in json.dumps(said)
    assert said["uplink"]["brokers"] == [
        f"mqtts://{REMOVED}@broker.example:8883",
        "mqtt://other.example",
    ]
    assert said["uplink"]["password_file"] == "broker-password"
    assert said["uplink"]["tls"] == {"key": REMOVED, "ca_file": "ca.pem"}
    assert said["sensors"][0]["options"] == {"api_token": REMOVED, "pin_a": 17}


@pytest.mark.parametrize(
    ("key", "is_secret"),
    [
        ("password", True),
        ("MQTT_PASSWORD", True),
        ("key", True),
        ("api-key", True),
        ("wifi_psk", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("password_file", False),
        ("key_file", False),
        ("SSH_AUTH_SOCK", False),
        ("keyboard", False),
        ("passage_cm", False),
        ("receipt_timeout_s", False),
        ("monkey", False),
    ],
)
def test_keys_that_name_a_secret(key: str, is_secret: bool) -> None:
    assert names_secret(key) is is_secret


def test_secrets_of_a_configuration_are_known_by_value(tmp_path: Path) -> None:
    (tmp_path / "broker-password").write_text("correct-horse\n")
    pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nAAAAB3NzaC1yc2EAAA\n-----END"
    (tmp_path / "gw.key").write_text(pem)
    document = {
        "uplink": {
            "brokers": ["mqtts://gw:h%20unter2@broker.example"],
            "password_file": "broker-password",
            "tls": {"key_file": "gw.key"},
        }
    }
    secrets = Secrets()
    secrets.add_configuration(document, lambda name: [tmp_path / name])
    for text in ("correct-horse", "MIIEvQIBADANBgkqhkiG9w0", "h%20unter2", "h unter2"):
        with pytest.raises(LeakError):
            secrets.check("a", f"xx{text}yy".encode())
    secrets.check("a", b"gw broker-password")


def test_a_password_written_where_its_file_belongs_is_taken_for_one(tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add_configuration({"uplink": {"password_file": "hunter2!"}}, lambda n: [tmp_path / n])
    with pytest.raises(LeakError):
        secrets.check("doctor.json", b"hunter2! cannot be read")


def test_the_environments_secrets_are_known_by_value() -> None:
    secrets = Secrets()
    secrets.add_environment({"MQTT_PASSWORD": "swordfish", "HOME": "/root", "A_TOKEN": "1"})
    with pytest.raises(LeakError, match="MQTT_PASSWORD"):
        secrets.check("a", b"x swordfish")
    secrets.check("a", b"/root 1")


@pytest.mark.parametrize(
    "line",
    [
        "connecting to mqtts://gw:not-known@broker.example",
        'error password="not-known" rejected',
        "MQTT_PASSWORD=not-known",
        "Authorization: Bearer not-known-1234",
        '{"token": "not-known"}',
        "-----BEGIN RSA PRIVATE KEY-----\nnot-known\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_removed_though_nobody_knows_it(line: str) -> None:
    scrubbed = Secrets().scrub(f"12:00 {line} at last")
    assert "not-known" not in scrubbed
    assert scrubbed.startswith("12:00 ")


def test_what_is_too_short_to_be_looked_for_is_named() -> None:
    secrets = Secrets()
    secrets.add("abc", "uplink.password_file")
    assert secrets.too_short == ["uplink.password_file"]
    secrets.check("a", b"abc")


def test_texts_deep_in_a_document_are_scrubbed(secrets: Secrets) -> None:
    said = secrets.scrub_all({"a": [SECRET, 1, None, {"b": f"x{SECRET}"}], SECRET: True})
    assert said == {"a": [REMOVED, 1, None, {"b": f"x{REMOVED}"}], REMOVED: True}


def test_a_secret_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broker-password").mkdir()  # root may read any file, and no folder
    secrets = Secrets()
    document = {"uplink": {"password_file": "broker-password"}}
    secrets.add_configuration(document, lambda name: [tmp_path / name])
    assert secrets.unreadable == [str(tmp_path / "broker-password")]
