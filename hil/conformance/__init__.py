"""The conformance battery: what every driver promises, as tests, for anybody's driver.

    pytest -p hil.conformance --driver NAME      one driver, or several
    pytest -p hil.conformance --drivers all      every driver that has an emulation

A test module with `DRIVERS = ["NAME"]` and `from hil.conformance.battery import *` holds the same
tests without the plugin.

It needs the driver and its emulation, each under the driver's name: in `drivers.DRIVERS` and
`hil.emulation.EMULATIONS`, or in the entry point groups `yukimi.drivers` and `yukimi.emulations`.
Time is simulated, and nothing sleeps. A failure says what to do.
"""

from __future__ import annotations

import pytest

BATTERY = "hil.conformance.battery"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the plugin's own options."""
    group = parser.getgroup("conformance", "conformance of sensor drivers")
    group.addoption(
        "--driver", action="append", metavar="NAME", help="run the battery on this driver"
    )
    group.addoption("--drivers", choices=("all",), help="run the battery on every driver")


def pytest_configure(config: pytest.Config) -> None:
    """Collect the battery, beside whatever paths were given."""
    if not (config.getoption("--driver") or config.getoption("--drivers")):
        return
    # Where nobody named a path, pytest's own choice would be all the tests there are.
    given = config.args if config.args_source is pytest.Config.ArgsSource.ARGS else []
    config.option.pyargs = True
    config.args = [*given, BATTERY]
