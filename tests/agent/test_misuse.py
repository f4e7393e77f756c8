"""The type checker refuses what must not be done with what is seen of people, line by line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MISUSE = Path(__file__).with_name("misuse") / "people.py"


def test_each_misuse_is_refused_and_nothing_else() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")),
            *("--hide-error-context", "--no-pretty", "--no-error-summary"),
            str(MISUSE),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = re.findall(r"misuse/people\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.M)
    expected = [
        (str(number), code)
        for number, line in enumerate(MISUSE.read_text(encoding="utf-8").splitlines(), 1)
        if "  # " in line
        for code in line.rpartition("  # ")[2].split(", ")
    ]
    assert len(expected) > 15
    assert told == expected, done.stdout + done.stderr
    assert done.stdout.count("error:") == len(expected), done.stdout  # nor in any other file
