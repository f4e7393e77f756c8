"""A new configuration is taken without losing a record; a wrong one changes nothing."""

from __future__ import annotations

from tests.e2e.conftest import Site


def test_a_wrong_configuration_is_refused_and_the_old_one_goes_on(site: Site) -> None:
    path = site.configure()
    site.start()
    site.wait_records("snow-2", 1)
    right = path.read_text(encoding="utf-8")
    path.write_text(right.replace("offset_s", "ofset_s"), encoding="utf-8")
    site.daemon.reload()
    site.daemon.wait_log("reload refused")
    site.daemon.wait_log("gateway.toml", "uplink.ofset_s", 'did you mean "offset_s"?')
    site.wait_records("snow-2", 2)
    assert len(site.start_records()) == 1
    assert site.stop() == 0
    site.close_account()


def test_a_right_one_begins_a_new_run_and_the_seam_shows_nothing_missing(site: Site) -> None:
    site.configure(["snow-2"])
    site.start()
    site.wait_records("snow-2", 2)
    first = site.spooled().run
    site.configure(["door-1", "snow-2"])
    site.daemon.reload()
    site.wait_records("door-1", 1)
    second = site.wait_spooled(lambda spooled: spooled.run != first, "a second run").run
    previous = site.start_records()[second]["previous"]
    assert (previous["run"], previous["clean"]) == (first, True)
    site.produced[first] = previous["produced"]
    configurations = {
        heard.document["run"]: heard.document["config"]
        for heard in site.heard
        if "/" in heard.topic
    }
    assert configurations[first] != configurations[second]
    assert site.stop() == 0
    site.close_account()
