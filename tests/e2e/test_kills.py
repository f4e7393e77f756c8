"""`kill -9` of the daemon at any moment: what it had committed is delivered by its next life."""

from __future__ import annotations

import random
import time

import pytest

from tests.e2e.conftest import Site, Spooled


@pytest.mark.slow
def test_what_a_killed_daemon_had_committed_is_delivered_under_its_old_run(site: Site) -> None:
    site.configure()
    dice = random.Random()
    killed: list[Spooled] = []
    for life in range(5):
        if life in (1, 2):  # these lives never see the broker, or lose it
            site.relay.cut()
        site.start()
        site.wait_new_run()
        time.sleep(dice.uniform(0.0, 3.5))  # the moment is what is tried here
        if life == 3:
            site.relay.cut()
            time.sleep(dice.uniform(0.0, 1.5))
        killed.append(site.kill())
        site.relay.resume()
    site.start()
    site.wait_online()
    site.wait_records("snow-2", 1)
    assert site.stop() == 0
    assert len(site.produced) == 6
    site.close_account()

    with site.city.locked() as account:
        for spooled in killed:
            for run, stream, number in spooled.waiting:
                assert number in account.delivered("site-01", run, stream)
    told = site.start_records()
    for earlier, run in zip(
        killed, [*(each.run for each in killed[1:]), site.spooled().run], strict=True
    ):
        assert told[run]["previous"] == {
            "run": earlier.run,
            "clean": False,
            "produced": earlier.produced,
        }
    assert told[killed[0].run]["previous"] is None
    status = site.retained_status()
    assert (status["state"], status["run"]) == ("offline", site.spooled().run)


def test_a_daemon_killed_at_its_first_step_is_told_of_by_the_next(site: Site) -> None:
    site.configure()
    site.start()
    site.wait_new_run()
    first = site.kill()
    site.start()
    site.wait_online()
    site.wait_until(
        lambda: any(values["previous"] for values in site.start_records().values()),
        "word of the first life",
    )
    second = site.spooled().run
    previous = site.start_records()[second]["previous"]
    assert previous == {"run": first.run, "clean": False, "produced": first.produced}
    assert site.stop() == 0
    site.close_account()
