"""Another verb of this program is run as isolated as the program itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from agent import ownverbs
print(ownverbs.document(["status"], "gateway.toml"))
"""


@pytest.mark.parametrize("is_isolated", [True, False])
def test_an_isolated_program_runs_nothing_that_lies_in_the_folder(
    tmp_path: Path, is_isolated: bool
) -> None:
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "__init__.py").touch()
    (tmp_path / "agent" / "__main__.py").write_text("print('{\"planted\": true}')\n", "utf-8")
    command = [sys.executable, *(["-I"] if is_isolated else []), "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ("planted" in done.stdout) is not is_isolated  # the control: a checkout runs so
