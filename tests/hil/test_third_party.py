"""A driver of another distribution: built, installed beside the gateway, used like our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hil.conformance import battery

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).parent / "third_party"
YUKIMI = ("-c", "import sys, agent.cli; sys.exit(agent.cli.main())")
PAGE = ROOT / "docs" / "writing-a-driver.md"

CONFIG = """
[gateway]
id = "third-party"
[uplink]
brokers = ["mqtt://localhost"]
[[buses]]
id = "bench"
kind = "simulated"
[[sensors]]
id = "air"
driver = "ti-tmp117"
bus = "bench"
options = { address = 0x4a }
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip has installed the example."""
    folder = tmp_path_factory.mktemp("installed")
    run(
        *("-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--no-index", "--target", str(folder), str(EXAMPLE)),
    )
    return folder


def run(*arguments: str, beside: Path | None = None, cwd: Path | None = None) -> str:
    """Run Python where the gateway is, and what is installed `beside` it."""
    path = [str(ROOT), *([str(beside)] if beside else [])]
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_listed_and_described_like_our_own(installed: Path) -> None:
    listed = run(*YUKIMI, "drivers", beside=installed)
    assert re.search(r"^ti-tmp117 +weather +i2c +Texas Instruments TMP117$", listed, re.M)
    page = run(*YUKIMI, "drivers", "ti-tmp117", beside=installed)
    assert "air_temperature_c [Cel]" in page
    assert "option    stuck_s (number from 0; default 3600.0)" in page
    assert "TI SNOSD82" in page


def test_it_stands_in_a_configuration_on_a_simulated_bus(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    told = json.loads(
        run(*YUKIMI, "config", "check", "--json", "--config", str(config), beside=installed)
    )
    assert told["ok"], told
    assert [sensor["driver"] for sensor in told["sensors"]] == ["ti-tmp117"]


def test_a_wrong_option_of_it_is_explained(installed: Path, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.replace("0x4a", "0x50"))
    with pytest.raises(AssertionError, match=r"options\.address"):
        run(*YUKIMI, "config", "check", "--config", str(config), beside=installed)


@pytest.mark.parametrize(
    ("arguments", "own_tests"),
    [((), 5), (("-p", "hil.conformance", "--driver", "ti-tmp117"), 0)],
    ids=["by its own test file", "by the plugin"],
)
def test_it_passes_the_battery(installed: Path, arguments: tuple[str, ...], own_tests: int) -> None:
    told = run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments), beside=installed, cwd=EXAMPLE
    )
    (passed,) = re.findall(r"(\d+) passed", told)
    promises = [name for name in vars(battery) if name.startswith("test_")]
    (skipped,) = re.findall(r"(\d+) skipped", told)
    assert int(passed) + int(skipped) == len(promises) + own_tests
    assert int(passed) >= 18


def test_a_name_without_an_emulation_is_said(installed: Path) -> None:
    with pytest.raises(AssertionError, match=r"yukimi\.emulations"):
        run(
            *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", "-p", "hil.conformance"),
            *("--driver", "ti-tmp118", "-c", os.devnull),
            beside=installed,
            cwd=installed,
        )


def test_the_page_on_writing_a_driver_shows_these_very_files() -> None:
    shown: dict[str, str] = {}
    for name, code in re.findall(
        r"<!-- ([\w./-]+) -->\n```\w+\n(.*?)```\n", PAGE.read_text(encoding="utf-8"), re.S
    ):
        # Pieces of one file follow each other; what is between them in the file is blank.
        shown[name] = shown[name].rstrip("\n") + "\n" + code if name in shown else code
    for file in sorted(EXAMPLE.rglob("*")):
        if file.suffix not in (".py", ".toml"):
            continue
        name = str(file.relative_to(EXAMPLE))
        assert squeezed(shown.pop(name, "")) == squeezed(file.read_text(encoding="utf-8")), name
    assert not shown


def squeezed(text: str) -> list[str]:
    """Return the lines that are not blank."""
    return [line for line in text.splitlines() if line.strip()]
