"""The gateway on a real kernel: one run over its hardware, and power cuts of the whole machine."""

from __future__ import annotations

import pytest

from hil.vpi.hardware import TRUTH, check_hardware
from hil.vpi.image import Image
from hil.vpi.powercut import cut_power
from hil.vpi.steps import without_panic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CUTS = 5


def test_sensors_measure_the_truth_through_the_kernel_and_what_breaks_recovers(
    pi_image: Image,
) -> None:
    found = without_panic(lambda: check_hardware(pi_image, print))
    assert found.evidence.keys() >= TRUTH.keys()
    before, after = found.evidence["usb"]
    assert before != after


def test_power_cuts_of_a_whole_machine_lose_nothing_that_was_committed(pi_image: Image) -> None:
    account = without_panic(lambda: cut_power(pi_image, CUTS, print))
    assert account.findings == []
    assert account.lost == []
    assert account.cuts == CUTS
    assert len(account.committed) >= CUTS


def test_on_a_disk_that_ignores_flushes_records_are_lost_and_found_missing(
    pi_image: Image,
) -> None:
    account = without_panic(lambda: cut_power(pi_image, 1, print, liar=True))
    assert account.lost
    assert account.holds
