"""The tour that a newcomer takes first: it ends well, and says so."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_tour_accounts_for_every_record_and_shows_an_alert() -> None:
    command = [sys.executable, "-m", "agent", "demo", "--seconds", "15"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "Every record is accounted for." in done.stdout
    assert "Traceback" not in done.stdout
    # The road of the tour is frozen.
    assert "raised: the road surface is at" in done.stdout.replace("road-1: ", "")
