"""What a real shell offers when Tab is pressed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from agent.cli import VERBS, parser_for
from agent.cli.commands import command_of
from agent.cli.completion import sensor_ids

EXAMPLE = Path(__file__).resolve().parents[2] / "config" / "examples" / "simulated.toml"

# `yukimi` as the shell finds it.
YUKIMI = f'yukimi() {{ {shlex.quote(sys.executable)} -m agent "$@"; }}'

ASK = """\
source "$1"; shift
{yukimi}
complete -p yukimi >&2
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_yukimi yukimi "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("completion")
    found = {"bash": folder / "yukimi", "zsh": folder / "_yukimi"}
    for shell, path in found.items():
        command = [sys.executable, "-m", "agent", "completion", shell]
        path.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    return found


@pytest.fixture
def offered(scripts: dict[str, Path], tmp_path: Path):
    def ask(*words: str) -> set[str]:
        told = subprocess.run(
            ["bash", "-c", ASK.format(yukimi=YUKIMI), "bash", str(scripts["bash"]), *words],
            capture_output=True,
            text=True,
            env={**os.environ, "YUKIMI_CONFIG": str(EXAMPLE)},
            check=True,
        )
        assert "complete -F _yukimi yukimi" in told.stderr
        return set(told.stdout.split())

    return ask


def test_verbs_and_their_actions_are_offered(offered) -> None:
    assert offered("yukimi", "") == set(VERBS)
    assert offered("yukimi", "re") == {"read", "record", "replay"}
    assert offered("yukimi", "config", "") >= {"check", "schema"}
    assert offered("yukimi", "config", "ch") == {"check"}


def test_options_are_those_of_the_verb(offered) -> None:
    assert {"--json", "--config", "--plain", "--help"} <= offered("yukimi", "watch", "-")
    assert "--consent" in offered("yukimi", "read", "--c")
    assert "--consent" not in offered("yukimi", "scan", "--c")
    assert "--config" in offered("yukimi", "config", "check", "--c")


def test_sensors_come_from_the_configuration(offered, tmp_path: Path) -> None:
    assert offered("yukimi", "read", "snow") == {"snow-1", "snow-2"}
    assert "hall-1" in offered("yukimi", "record", "-o", "file", "")
    other = tmp_path / "other.toml"
    other.write_text("[[sensors]]\nid = 'elsewhere-1'\n", encoding="utf-8")
    assert offered("yukimi", "read", "--config", str(other), "") == {"elsewhere-1"}
    assert offered("yukimi", "read", "snow-1", "") == set()


def test_drivers_files_and_choices_are_offered_where_they_belong(
    offered,
    tmp_path: Path,
) -> None:
    assert offered("yukimi", "drivers", "campbell") == {"campbell-sr50a"}
    assert offered("yukimi", "replay", "x", "--driver", "bme") == {"bme280"}
    assert offered("yukimi", "run", "--log-level", "") == {"debug", "info", "warning"}
    (tmp_path / "gateway.toml").touch()
    assert offered("yukimi", "run", "--config", f"{tmp_path}/g") == {f"{tmp_path}/gateway.toml"}
    assert offered("yukimi", "demo", "--seconds", "") == set()


def test_a_sensor_id_that_is_code_is_not_offered_to_a_shell(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[[sensors]]\nid = "$(touch x)"\n[[sensors]]\nid = "air-1"\n', encoding="utf-8")
    assert list(sensor_ids(file)) == ["air-1"]


def test_a_configuration_that_is_no_toml_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("[[", encoding="utf-8")
    assert list(sensor_ids(tmp_path / "gateway.toml")) == []
    assert list(sensor_ids(tmp_path / "missing.toml")) == []


def test_every_verb_and_option_is_in_both_scripts(scripts: dict[str, Path]) -> None:
    texts = [path.read_text(encoding="utf-8") for path in scripts.values()]
    for command in command_of(parser_for(*VERBS)).all():
        for option in command.options:
            assert all(name in text for name in option.names for text in texts)


def _typed(shell: list[str], setup: str, typed: str, expected: str) -> None:
    """Type into an interactive shell, and see what it makes of it."""
    child = pexpect.spawn(
        shell[0],
        shell[1:],
        env={**os.environ, "YUKIMI_CONFIG": str(EXAMPLE), "TERM": "dumb", "PS1": "> "},
        timeout=60,
        encoding="utf-8",
    )
    child.delaybeforesend = None
    try:
        for line in setup.splitlines():
            child.sendline(line)
        child.sendline("echo re''ady")
        child.expect("ready")
        child.send(typed)
        child.expect_exact(expected)
    finally:
        child.close(force=True)


def test_bash_completes_what_is_typed(scripts: dict[str, Path]) -> None:
    setup = f"{YUKIMI}\nsource {scripts['bash']}"
    _typed(["bash", "--norc", "-i"], setup, "yukimi wat\t", "watch ")
    _typed(["bash", "--norc", "-i"], setup, "yukimi read hal\t", "hall-1 ")


def test_zsh_completes_what_is_typed(scripts: dict[str, Path]) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("no zsh")
    setup = (
        f"{YUKIMI}\nfpath=({scripts['zsh'].parent} $fpath)\nautoload -Uz compinit; compinit -u -D"
    )
    _typed(["zsh", "-f", "-i"], setup, "yukimi wat\t", "watch")
    _typed(["zsh", "-f", "-i"], setup, "yukimi read hal\t", "hall-1")
    _typed(["zsh", "-f", "-i"], setup, "yukimi drivers camp\t", "campbell-sr50a")
    _typed(["zsh", "-f", "-i"], setup, "yukimi run --log-l\tdeb\t", "debug")
