"""The battery as pytest collects it: every promise, for every driver that was asked for.

`pytest -p hil.conformance --driver NAME` runs it anywhere. A test module that says
`from hil.conformance.battery import *` holds it too: over the drivers that its `DRIVERS` names, or
over every one that has an emulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import drivers
from hil import emulation

from .answers import *  # noqa: F403
from .faults import *  # noqa: F403
from .manners import *  # noqa: F403
from .says import *  # noqa: F403
from .stream import *  # noqa: F403
from .trial import Subject


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each promise each driver."""
    if "subject" in metafunc.fixturenames:
        metafunc.parametrize("subject", chosen(metafunc), indirect=True)


def chosen(metafunc: pytest.Metafunc) -> Sequence[str]:
    """Return the drivers that were asked for."""
    config = metafunc.config
    named: Sequence[str] = getattr(metafunc.module, "DRIVERS", ())
    named = named or config.getoption("--driver", default=None) or ()
    if named and not config.getoption("--drivers", default=None):
        return named
    known = set(drivers.names())
    return [name for name in emulation.emulated() if name in known]


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Subject:
    """The driver and its emulated device."""
    name: str = request.param
    try:
        return Subject.named(name)
    except KeyError:
        pytest.fail(
            f'no driver or no emulation is called "{name}": name it in the entry point groups '
            f"yukimi.drivers and yukimi.emulations. Known: {', '.join(emulation.emulated())}"
        )
    except ImportError as exc:
        pytest.fail(f"{name}: a library is missing: {exc}")
