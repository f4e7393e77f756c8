"""The power is cut for real, as far as root and loop devices go: see hil/powercut.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hil import powercut

CUTS = 100
CONTROL_CUTS = 50  # the control ends with its first loss, far earlier
WAIT_S = 250


def cut_power(folder: Path, *options: str) -> dict[str, Any]:
    """Run the bench in `folder`; skip where the power cannot be cut."""
    command = [sys.executable, "-m", "hil.powercut", "--json", *options]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as bench:
        try:
            answer, errors = bench.communicate(timeout=WAIT_S)
        finally:
            if bench.poll() is None:
                bench.terminate()  # it cleans up after itself
    if bench.returncode == powercut.UNREACHABLE:
        pytest.skip(errors.strip())
    assert answer, errors
    report: dict[str, Any] = json.loads(answer)
    assert bench.returncode == (0 if report["holds"] else 1), errors
    return report


def test_a_hundred_power_cuts_lose_nothing(tmp_path: Path) -> None:
    report = cut_power(tmp_path, "--cuts", str(CUTS))
    assert report["findings"] == []
    assert report["lost"] == 0
    assert report["cuts"] == CUTS
    assert report["committed"] > 0
    assert report["delivered"] > 0
    assert list(tmp_path.iterdir()) == []


def test_the_same_cuts_lose_records_that_are_not_synced(tmp_path: Path) -> None:
    report = cut_power(tmp_path, "--cuts", str(CONTROL_CUTS), "--unsafe")
    assert report["lost"] > 0
    assert report["holds"]


def test_without_root_the_bench_says_so_and_exits_with_69(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(sys, "argv", ["powercut"])
    assert powercut.main() == 69
    assert "needs root" in capsys.readouterr().err
