"""`yukimi diag`: what is handed out holds no secret, wherever one was planted."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import tarfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from agent import applied, collect
from agent.applied import Entry
from agent.cli import main
from agent.redaction import REMOVED, Secrets
from config.load import read
from config.text import Text
from tests.agent.test_cli import Said

Yukimi = Callable[..., Said]

PLANTED = {
    "the password file": "correct horse/battery",
    "an earlier password file": "wrong pony,staple",
    "the key file": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "the configuration": "in-the-file-by-mistake",
    "a sensor's options": "sensor-api-key-77",
    "a URL": "url%20pass-word",
    "the environment": "from-the-environment",
    "a line of the journal": "nobody-knows-this-one",
}

CONFIGURATION = """
[gateway]
id = "site-01"
[uplink]
brokers = ["mqtts://broker.example"]
username = "site-01"
password_file = "broker-password"
[uplink.tls]
cert_file = "gw.pem"
key_file = "gw.key"
[spool]
path = "{folder}/spool.db"
[control]
socket = "nobody.sock"
[[sensors]]
id = "box-1"
driver = "pi-health"
bus = "system"
"""
MISTAKES = f"""
[uplink.more]
password = "{PLANTED["the configuration"]}"
url = "mqtts://gw:{PLANTED["a URL"]}@broker.example"
[[sensors]]
id = "x"
driver = "pi-health"
bus = "system"
options = {{ api_key = "{PLANTED["a sensor's options"]}" }}
"""


def script(path: Path, lines: list[str]) -> None:
    """A command that prints these lines."""
    text = "".join(f"{line}\n" for line in lines)
    path.with_suffix(".txt").write_text(text, encoding="utf-8")
    path.write_text(f'#!/bin/sh\ncat "{path.with_suffix(".txt")}"\n', encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def yukimi(capsys: pytest.CaptureFixture[str]) -> Yukimi:
    def command(*arguments: object) -> Said:
        code = main([str(each) for each in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return command


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A gateway's folder with secrets in all places where one may be."""
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIGURATION.format(folder=tmp_path) + MISTAKES, encoding="utf-8")
    password = PLANTED["the password file"]
    (tmp_path / "broker-password").write_text(f"{password}\n", encoding="utf-8")
    pem = f"-----BEGIN PRIVATE KEY-----\n{PLANTED['the key file']}\n-----END PRIVATE KEY-----\n"
    (tmp_path / "gw.key").write_text(pem, encoding="utf-8")
    (tmp_path / "gw.pem").write_text("no secret\n", encoding="utf-8")
    commands = tmp_path / "bin"
    commands.mkdir()
    basic = b64encode(f"site-01:{password}".encode()).decode()
    script(
        commands / "journalctl",
        [
            "2027-01-15T00:10:00 yukimi[7]: event=connected",
            f"2027-01-15T00:10:01 yukimi[7]: refused password {password}",
            f"2027-01-15T00:10:02 yukimi[7]: url=https://x.example/?p={quote(password, safe='')}",
            f"2027-01-15T00:10:03 yukimi[7]: header Basic {basic}",
            f"2027-01-15T00:10:04 yukimi[7]: key {PLANTED['the key file']}",
            f"2027-01-15T00:10:05 yukimi[7]: broker password={PLANTED['a line of the journal']}",
            f"2027-01-15T00:10:06 yukimi[7]: env {PLANTED['the environment']}",
            f"2027-01-15T00:10:07 yukimi[7]: mqtts://gw:{PLANTED['a URL']}@broker.example",
        ],
    )
    script(
        commands / "dmesg",
        [
            "[1.0] usb 1-1: New USB device found",
            "[1.1] ext4: mounted",
            "[1.2] systemd: hello",
            f"[1.3] i2c i2c-1: {PLANTED['the environment']}",
        ],
    )
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("MQTT_PASSWORD", PLANTED["the environment"])
    return tmp_path


def collected(yukimi: Yukimi, site: Path, name: str = "ticket.tar.gz") -> Said:
    return yukimi("diag", "collect", "-o", site / name, "--config", site / "gateway.toml")


def parts(file: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            found[member.name.removeprefix("yukimi-diag/")] = content.read()
    return found


def leaks(content: dict[str, bytes]) -> set[str]:
    """Search for each planted secret by itself, with none of the program's own code."""
    found = set()
    for where, secret in PLANTED.items():
        basic = b64encode(f"site-01:{secret}".encode())
        forms = [
            secret.encode(),
            quote(secret, safe="").encode(),
            basic[12:-4],
            secret.encode().hex(),
        ]
        for name, each in content.items():
            if any((f if isinstance(f, bytes) else f.encode()) in each for f in forms):
                found.add(f"{where}: {name}")
    return found


def test_no_planted_secret_is_in_the_tarball(yukimi: Yukimi, site: Path) -> None:
    said = collected(yukimi, site)
    assert said.code == 0, said.err
    content = parts(site / "ticket.tar.gz")
    assert leaks(content) == set()
    journal = content["journal.txt"].decode()
    assert len(journal.splitlines()) == 8
    assert "event=connected" in journal
    assert journal.count(REMOVED) >= 6
    assert not any(secret in said.out + said.err for secret in PLANTED.values())


def test_without_scrubbing_there_is_no_tarball(
    yukimi: Yukimi, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search of what is finished, by itself."""
    monkeypatch.setattr(Secrets, "scrub", lambda _self, text: text)
    said = collected(yukimi, site)
    assert said.code == 1
    assert "nothing was written" in said.err
    assert not any(secret in said.err for secret in PLANTED.values())
    assert [file.name for file in site.iterdir() if "ticket" in file.name] == []


def test_without_scrubbing_and_search_the_secrets_would_be_in_it(
    yukimi: Yukimi, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the two above."""
    monkeypatch.setattr(Secrets, "scrub", lambda _self, text: text)
    monkeypatch.setattr(Secrets, "check", lambda *_: None)
    assert collected(yukimi, site).code == 0
    found = {leak.partition(":")[0] for leak in leaks(parts(site / "ticket.tar.gz"))}
    # What stands in the configuration is removed from it by structure already.
    removed = {"the configuration", "a sensor's options", "an earlier password file"}
    assert found >= PLANTED.keys() - removed


def test_the_report_holds_none_either(yukimi: Yukimi, site: Path) -> None:
    file = site / "report.html"
    config = ("--config", site / "gateway.toml")
    assert yukimi("diag", "report", "-o", file, *config, "--lang", "ja").code == 0
    text = file.read_text(encoding="utf-8")
    assert leaks({"report": file.read_bytes()}) == set()
    assert '<html lang="ja">' in text
    assert "設定の問題点" in text  # the mistakes are told, without what was written


def test_the_parts_are_named_and_so_is_what_is_missing(yukimi: Yukimi, site: Path) -> None:
    said = yukimi(
        *("diag", "collect", "-o", site / "t.tar.gz"),
        *("--config", site / "gateway.toml", "--json"),
    )
    content = parts(site / "t.tar.gz")
    manifest: dict[str, Any] = json.loads(content["manifest.json"])
    assert manifest["schema"] == "yukimi.collect/1"
    assert manifest["gateway"] == "site-01"
    assert manifest["parts"].keys() | {"manifest.json"} == content.keys()
    assert {"report.html", "configuration.json", "journal.txt", "kernel.txt"} <= content.keys()
    assert manifest["missing"].keys() == said.document["missing"].keys() >= {"status.json"}
    assert all(json.loads(content[name]) for name in content if name.endswith(".json"))
    kernel = content["kernel.txt"].decode().splitlines()
    assert [line[:5] for line in kernel] == ["[1.0]", "[1.1]", "[1.3]"]


def test_what_ran_before_is_told_and_what_each_changed_without_secrets(
    yukimi: Yukimi, site: Path
) -> None:
    first = read(site / "gateway.toml")[0]
    (site / "old-password").write_text(PLANTED["an earlier password file"])
    before = {"username": "site-00", "password_file": "old-password"}
    older = first | {"uplink": first["uplink"] | before}
    history = applied.Applied(applied.folder_for(site / "gateway.toml", site / "spool.db"))
    url = f"mqtts://gw:{PLANTED['a URL']}@other.example {PLANTED['an earlier password file']}"
    for number, document, outcome, why in (
        (1, older, "confirmed", ""),
        (2, first, "confirmed", ""),
        (3, {}, "refused", f"no such broker: {url}"),
    ):
        entry = Entry(number, outcome, "signer:mika", "", "", "", document, why=Text(why, why))
        history.write(entry)
    assert collected(yukimi, site).code == 0
    content = parts(site / "ticket.tar.gz")
    assert leaks(content) == set()
    told = json.loads(content["configurations.json"])
    assert [each["outcome"] for each in told["entries"]] == ["confirmed", "confirmed", "refused"]
    assert (told["holds"], told["file_edited"]) == (2, True)
    assert [(each["a"], each["b"]) for each in told["changes"]] == [("1", "2"), ("2", "file")]
    assert {'-username = "site-00"', '+username = "site-01"'} <= {*told["changes"][0]["diff"]}
    assert told["changes"][1]["diff"] == []


def test_a_history_that_cannot_be_read_is_named(
    yukimi: Yukimi, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_self: applied.Applied) -> list[Entry]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(applied.Applied, "entries", fails)
    assert collected(yukimi, site).code == 0
    missing = json.loads(parts(site / "ticket.tar.gz")["manifest.json"])["missing"]
    assert missing["configurations.json"] == "Permission denied"


def test_only_its_owner_may_read_it_and_nothing_else_is_left(yukimi: Yukimi, site: Path) -> None:
    before = {file.name for file in site.iterdir()}
    collected(yukimi, site)
    assert stat.S_IMODE((site / "ticket.tar.gz").stat().st_mode) == 0o600
    assert {file.name for file in site.iterdir()} - before == {"ticket.tar.gz"}


def test_it_takes_the_place_of_nothing(yukimi: Yukimi, site: Path) -> None:
    (site / "ticket.tar.gz").write_text("mine")
    for verb in ("report", "collect"):
        out = ("-o", site / "ticket.tar.gz")
        assert yukimi("diag", verb, *out, "--config", site / "gateway.toml").code == 2
    assert (site / "ticket.tar.gz").read_text() == "mine"


def test_it_stays_small_whatever_the_journal_says(yukimi: Yukimi, site: Path) -> None:
    line = [os.urandom(100).hex() for _ in range(40_000)]
    script(site / "bin" / "journalctl", [*line, "the last line"])
    assert collected(yukimi, site).code == 0
    assert (site / "ticket.tar.gz").stat().st_size < 5_000_000
    journal = parts(site / "ticket.tar.gz")["journal.txt"]
    assert len(journal) <= 2**20
    assert journal.endswith(b"the last line\n")


def test_a_machine_without_a_journal_is_no_obstacle(
    yukimi: Yukimi, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(site / "empty"))
    assert collected(yukimi, site).code == 0
    missing = json.loads(parts(site / "ticket.tar.gz")["manifest.json"])["missing"]
    assert "no journalctl here" in missing["journal.txt"]


def test_a_secret_that_cannot_be_read_cannot_be_searched_for(yukimi: Yukimi, site: Path) -> None:
    (site / "broker-password").unlink()
    (site / "broker-password").mkdir()  # root may read any file, and no folder
    said = collected(yukimi, site)
    assert said.code == 74
    assert "run as root" in said.err
    assert not (site / "ticket.tar.gz").exists()


def test_a_configuration_that_is_no_toml_is_no_obstacle(yukimi: Yukimi, site: Path) -> None:
    (site / "gateway.toml").write_text("[uplink\npassword = 'x", encoding="utf-8")
    assert collected(yukimi, site).code == 0
    missing = json.loads(parts(site / "ticket.tar.gz")["manifest.json"])["missing"]
    assert missing["configuration.json"] == "it cannot be read"


def test_the_same_parts_make_the_same_tarball() -> None:
    one = collect.Collection()
    one.text("b.txt", "b")
    one.text("a.txt", "a")
    packed = collect.pack(one, 1_800_000_000.0)
    assert packed == collect.pack(one, 1_800_000_000.0)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == ["yukimi-diag/a.txt", "yukimi-diag/b.txt"]
        assert {member.mode for member in tar} == {0o600}
