"""What is wrong with a configuration, in both languages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent.option_words import worded
from agent.plan import load_plan
from config.load import ConfigError

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")

BROKER = "[uplink]\nbrokers = ['mqtt://b']\n"

# A mistake of each kind that occurs, and what its English says.
MISTAKES = [
    ("[gatewai]\nid = 'a'", 'unknown key "gatewai"; did you mean "gateway"?'),
    ("[gateway]\nid = 5", "must be a text in quotes, not 5"),
    ("[gateway]\nid = 'A b'", "must be 1 to 64 characters of a-z, 0-9 and -"),
    ("[uplink]\ninflight = 1.5", "must be a whole number"),
    ("[uplink]\ninflight = 0", "must be at least"),
    ("[uplink]\ninflight = 100000", "must be at most"),
    ("[uplink]\nreceipt_timeout_s = 'x'", "must be a"),
    ("[uplink]\nrequire_subscriber = 1", "must be true or false"),
    ("[uplink]\nbrokers = 'x'", "must be a list in [ ]"),
    ("[uplink]\nbrokers = []", "needs at least 1 entry"),
    ("[uplink]\nbrokers = ['http://x']", "must start with mqtt:// or mqtts://"),
    ("[uplink]\nconfirm = 'city'", 'must be "broker" or "receipt"'),
    ("[uplink]\npassword = 'x'", "secrets are never in the file"),
    ("uplink = 5", "must be a table"),
    (BROKER + "[[sensors]]\nid = 'a'\ndriver = 'bme280'", "is missing and has no default"),
    (
        "[[sensors]]\nid = 'a'\ndriver = 'bme28'\nbus = '/dev/i2c-1'",
        'unknown driver "bme28"; did you mean "bme280"?',
    ),
    (BROKER + "[[sensors]]\nid = 'a'\ndriver = 'bme280'\nbus = 'i2c'", 'unknown bus "i2c"'),
    (BROKER + "[[sensors]]\nid = 'a'\ndriver = 'bme280'\nbus = 'gpio'", "bme280 sits on a i2c bus"),
    ("[privacy.flow]\nepsilon = '0.x'", "must be an exact fraction in quotes"),
    ("[spool]\nmax_bytes = 'many'", 'must be a number of bytes or a text such as "512MiB"'),
    ("x = ", "is not valid TOML"),
]


# Options that each of our drivers refuses, or misses, in a sentence of its own.
OPTIONS = [
    ("beam-pair", "gpio", "pin_a = 4, pin_b = 4"),
    ("benewake-tf-pair", "/dev/ttyS1", ""),
    ("omron-d6t", "/dev/i2c-1", "model = '8x1', rotate = 90"),
    ("hlk-ld2450", "/dev/ttyS1", "x_min_mm = 10, x_max_mm = -10"),
    ("lufft-umb", "/dev/ttyS1", "model = 'generic'"),
    ("lufft-umb", "/dev/ttyS1", "model = 'shm31', kind = 'road'"),
    ("vaisala-md30", "/dev/ttyS1", "unit = 5, own_id = 5"),
    ("modbus-rtu", "/dev/ttyS1", ""),
    ("modbus-rtu", "/dev/ttyS1", "registers = [{ register = 1, quantity = 'x', unit = 'cm' }]"),
    ("pulse-counter", "gpio", ""),
    ("pulse-counter", "gpio", "pin_towards = 4, pin_away = 4"),
    ("campbell-sr50a", "/dev/ttyS1", ""),
    ("campbell-sr50a", "/dev/ttyS1", "fields = ['distance', 'distance']"),
    ("campbell-sr50a", "/dev/ttyS1", "corrects_itself = true"),
    ("maxbotix-hrxl", "/dev/ttyS1", ""),
]


@pytest.mark.parametrize(("driver", "bus", "options"), OPTIONS)
def test_what_our_drivers_say_of_their_options_is_japanese_too(
    driver: str, bus: str, options: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    sensor = f"[[sensors]]\nid = 'a'\ndriver = '{driver}'\nbus = '{bus}'\n"
    file.write_text(f"{BROKER}{sensor}options = {{ {options} }}", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_plan(file)
    for problem in refused.value.problems:
        assert JAPANESE.search(problem.text.ja), problem.text
        assert not JAPANESE.search(problem.text)


def test_the_sentence_of_a_driver_of_others_stays_as_it_is() -> None:
    assert worded("gain: turn it down").ja == "gain: turn it down"


@pytest.mark.parametrize(("toml", "english"), MISTAKES)
def test_each_kind_of_mistake_is_told_in_both_languages(
    toml: str, english: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_plan(file)
    texts = [problem.text for problem in refused.value.problems]
    (text,) = (each for each in texts if english in each)
    assert JAPANESE.search(text.ja)
    assert not JAPANESE.search(text)
    for word in ("must", "unknown", "known:", " not ", "mean"):
        assert word not in text.ja


def _check(file: Path, *options: str, locale: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", "config", "check", "--config", str(file), *options],
        env={**os.environ, "LC_ALL": locale},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_what_machines_read_does_not_depend_on_the_language(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[gatewai]\nid = 'a'", encoding="utf-8")
    in_english, in_japanese = (_check(file, "--json", locale=each) for each in ("C", "ja_JP.UTF-8"))
    assert in_english.stdout == in_japanese.stdout
    problems = json.loads(in_japanese.stdout)["problems"]
    assert any("did you mean" in problem["what"] for problem in problems)


def test_a_technician_in_japan_reads_japanese(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("[gatewai]\nid = 'a'", encoding="utf-8")
    said = _check(file, locale="ja_JP.UTF-8")
    assert said.returncode == 78
    assert "「gateway」の誤りではありませんか" in said.stdout
    assert re.search(r"修正が必要な箇所が\d件", said.stdout)
