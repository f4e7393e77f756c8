"""Which moments are taken and which are cut at; and when a run is begun anew."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from hil.broker import MOSQUITTO
from hil.vpi.machine import VirtualPi
from hil.vpi.moments import Cut, Steps, spread
from hil.vpi.nbd import Moment
from hil.vpi.qmp import MachineError
from hil.vpi.site import Site
from hil.vpi.steps import PANICS, without_panic
from tests.hil.vpi.conftest import refuse


def cuts(count: int) -> list[Cut]:
    return [Cut(str(number), Moment({}, {}), ()) for number in range(count)]


@pytest.mark.parametrize(
    ("there", "wanted", "chosen"),
    [(9, 3, "147"), (4, 1, "2"), (3, None, "012"), (2, 5, "01")],
    ids=["some", "one", "all", "fewer than wanted"],
)
def test_those_that_are_cut_at_are_spread_over_all(
    there: int, wanted: int | None, chosen: str
) -> None:
    assert "".join(cut.step for cut in spread(cuts(there), wanted)) == chosen


def test_what_is_repeated_is_no_step_until_something_new_was_told() -> None:
    steps = Steps()
    told = ["sync a", "rename a"] + 3 * ["sync a", "rename a"] + ["sync b", "sync a", "sync a"]
    news = [number for number, step in enumerate(told) if steps.is_new(step)]
    assert news == [0, 1, 2, 8, 9]


def test_a_guest_whose_kernel_falls_over_is_begun_anew_and_not_for_ever() -> None:
    tries = []

    def panics() -> None:
        tries.append(1)
        raise MachineError("... Kernel panic - not syncing")

    with pytest.raises(MachineError, match="panic"):
        without_panic(panics)
    assert len(tries) == 1 + PANICS


def test_what_the_gateway_does_wrong_is_told_at_once() -> None:
    tries = []

    def fails() -> None:
        tries.append(1)
        raise MachineError("the account does not close")

    with pytest.raises(MachineError, match="account"):
        without_panic(fails)
    assert len(tries) == 1


class Machine:
    """One that stays on."""

    def check_on(self, what: str) -> None:
        """Do nothing."""


def test_what_the_city_has_heard_is_put_back_as_often_as_one_likes() -> None:
    if not Path(MOSQUITTO).exists():
        refuse("apt-get install --no-install-recommends mosquitto")
    with Site(cast("VirtualPi", Machine())) as site:
        first = site.heard_all()
        second = site.heard_all()
        for moment in (first, second, first):
            site.return_to(moment)
            assert site.heard_all()[:-1] == moment
