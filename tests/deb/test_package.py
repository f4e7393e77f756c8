"""The Debian package, installed for real in Debian 12 and 13 without a network."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hil.vpi.packages import variant
from tests.deb.conftest import Build, build_package
from tests.deb.systems import System

RELEASES = ("bookworm", "trixie")
SITE = "/opt/yukimi/lib/python{python}/site-packages"
# As the distributions write them; each lets us ship it inside a package under Apache-2.0.
LICENCES = {
    "Apache-2.0",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause AND 0BSD AND MIT AND Zlib AND CC0-1.0",
    "EPL-2.0 OR BSD-3-Clause",
    "MIT",
    "MIT License",
    "MIT OR Apache-2.0",
    "PSF-2.0",
    "unlicense.org",
}
ELF_MACHINE = {"amd64": 0x3E, "arm64": 0xB7}
INIT = "yukimi init --yes --id trial --broker mqtt://127.0.0.1 --sensors simulated --clock system"
# A gateway with a broker beside it, all inside the container, until the broker has taken records.
LIVE = r"""
sed -i 's/^\[uplink\]/[uplink]\nrequire_subscriber = false/' /etc/yukimi/gateway.toml
mosquitto -d -p 1883
mkdir -p /run/yukimi
yukimi run & daemon=$!
for try in $(seq 600); do
    yukimi status --json | grep -q '"acknowledged": "2' && { echo "the broker has records"; break; }
    sleep 0.2
done
kill $daemon; wait $daemon; echo "ended $?"
"""


@pytest.mark.parametrize("release", RELEASES)
def test_installs_runs_and_leaves_without_a_network(
    system: Callable[[str], System], build: Build, tmp_path: Path, release: str
) -> None:
    debian = system(release)
    package = build(release, "amd64")
    assert debian.run("ls /sys/class/net").split() == ["lo"]
    first = debian.put(package)
    later = debian.put(variant(package, tmp_path, "0.1.0-2", lambda tree: None))

    assert "next: sudo yukimi init" in debian.run(f"dpkg -i {first}")
    assert "package 0.1.0-1~deb" in debian.run("yukimi --version")
    assert debian.run("dpkg --verify yukimi") == ""
    assert "written: /etc/yukimi/gateway.toml" in debian.run(INIT)
    assert "good" in debian.run("yukimi config check")
    assert debian.run("stat -c '%a %U:%G' /etc/yukimi/gateway.toml") == "640 root:yukimi\n"
    said = debian.run(LIVE)
    assert "the broker has records\n" in said, said
    assert said.endswith("ended 0\n"), said

    kept = "sha256sum /etc/yukimi/gateway.toml; ls /var/lib/yukimi/spool.db"
    before = debian.run(kept)
    for step in (
        f"dpkg -i {later}",  # upgrade
        f"dpkg -i {first}",  # downgrade
        "dpkg -r yukimi",
        "dpkg -P yukimi",
    ):
        debian.run(step)
        assert debian.run(kept) == before, step
    left = debian.run("find / -xdev -name packages -prune -o -name '*yukimi*' -print")
    assert left.split() == ["/etc/yukimi", "/var/lib/yukimi"]
    assert debian.run(f"dpkg -i {first} && yukimi config check")  # and it goes on where it was


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("architecture", ELF_MACHINE)
def test_every_binary_is_for_the_machine(
    build: Build, tmp_path: Path, release: str, architecture: str
) -> None:
    package = build(release, architecture)
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    binaries = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"
    ]
    names = {path.name.split(".")[0] for path in binaries}
    assert {"_pydantic_core", "_multiarray_umath"} <= names
    assert ("_lgpio" in names) == ((release, architecture) == ("bookworm", "arm64"))
    for path in binaries:
        machine = int.from_bytes(path.read_bytes()[18:20], "little")
        assert machine == ELF_MACHINE[architecture], path


def test_the_bill_of_materials_names_all_that_is_inside_and_no_more(
    build: Build, tmp_path: Path
) -> None:
    subprocess.run(["dpkg-deb", "-x", build("bookworm", "arm64"), tmp_path], check=True)
    text = (tmp_path / "opt/yukimi/sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"name"', '"nom"'))
    document = json.loads(text)
    named = {f"{each['name']} {each['version']}" for each in document["components"]}
    shipped = {
        " ".join(line.split(": ", 1)[1] for line in path.read_text().splitlines()[:3][1:])
        for path in tmp_path.rglob("*.dist-info/METADATA")
    }
    assert named == {each for each in shipped if not each.startswith("yukimi ")}
    assert all(each["licenses"] for each in document["components"])


def test_every_licence_inside_is_one_that_was_looked_at(build: Build, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", build("bookworm", "arm64"), tmp_path], check=True)
    text = (tmp_path / "usr/share/doc/yukimi/copyright").read_text()
    named = {line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("License: ")}
    assert named <= LICENCES
    for line in text.splitlines():
        if line.startswith(" Text: "):
            assert (tmp_path / line.removeprefix(" Text: /")).is_file(), line


def test_the_same_commit_gives_the_same_bytes(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build("bookworm", "amd64").read_bytes()
    # Whatever the builder's environment compiles, and wherever it imports from.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("UV_COMPILE_BYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", sysconfig.get_path("purelib"))
    again = build_package("bookworm", "amd64", tmp_path)
    listed = subprocess.run(["dpkg-deb", "-c", again], capture_output=True, text=True, check=True)
    assert "/agent/__init__.py\n" in listed.stdout
    assert "__pycache__" not in listed.stdout
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(first).hexdigest()
