"""Fixtures for all tests: where the recordings are."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import Phase, settings

import agent.logs  # noqa: F401  (from then on, the log is written its way)

# A shell lets what it runs in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["LC_ALL"] = "C.UTF-8"  # what is said is held against English, on any machine

# How long an example takes is a matter of the machine, never a failure.
settings.register_profile("patient", parent=settings(), deadline=None)
settings.load_profile("patient")
# `hil.mutants` asks only whether there is a counterexample: it need not be a small one.
settings.register_profile("hasty", parent=settings(), phases=(Phase.explicit, Phase.generate))


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Let no test change how the others log."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def recordings() -> Path:
    """The folder of real recordings; not part of the project."""
    folder = Path(os.environ.get("YUKIMI_RECORDINGS", ROOT / "../shared/recordings"))
    if not folder.is_dir():
        reason = f"no recordings at {folder}: set YUKIMI_RECORDINGS"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


# What takes minutes begins first: at the end the other cores would wait for it.
LONGEST = ("tests/hil/vpi/test_virtual_pi.py", "tests/deb/", "tests/e2e/test_unit.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of virtual machines and packages begin first."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
