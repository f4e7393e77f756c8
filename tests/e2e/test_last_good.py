"""A wrong configuration at the start: the last good one runs, says so, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Site


@pytest.fixture
def site(site: Site) -> Site:
    """A site with a folder for its state, as systemd gives one."""
    site.environment["STATE_DIRECTORY"] = str(site.folder / "state")
    return site


def started_and_stopped(site: Site) -> str:
    """Live once; return the id of the configuration that ran."""
    site.start()
    site.wait_online()
    site.wait_records("snow-2", 1)
    running = str(site.statuses()[-1]["config"])
    assert site.stop() == 0
    return running


def broken(path: Path) -> list[tuple[str, str]]:
    """Break a configuration in several ways; say what must be told of each."""
    right = path.read_text(encoding="utf-8")
    return [
        (right + "this is no TOML", "is not valid TOML"),
        (right.replace("offset_s", "ofset_s"), 'did you mean "offset_s"?'),
        (right.replace("mount_height_cm", "mount_hight_cm"), "mount_hight_cm"),
        (right.replace("[spool]", "[spool]\nmax_bytes = 1"), "spool.max_bytes"),
    ]


def test_whatever_is_wrong_the_last_good_one_runs_until_it_is_put_right(site: Site) -> None:
    path = site.configure(["snow-2"])
    good = started_and_stopped(site)
    for text, told in broken(path):
        path.write_text(text, encoding="utf-8")
        assert started_and_stopped(site) == good
        assert site.daemon.said("configuration refused, the last good one runs")
        assert site.daemon.said("gateway.toml", told)
    path.unlink()
    assert started_and_stopped(site) == good
    assert site.daemon.said("no such file")

    path.mkdir()
    site.start()
    site.wait_online()
    assert site.daemon.said("cannot be read")
    path.rmdir()
    site.configure(["door-1", "snow-2"])
    site.daemon.reload()
    site.wait_records("door-1", 1)
    assert site.statuses()[-1]["config"] != good
    previous = list(site.start_records().values())[-1]["previous"]
    site.produced[previous["run"]] = previous["produced"]
    assert site.stop() == 0
    site.close_account()


def test_without_one_it_ends_and_says_what_to_edit(site: Site) -> None:
    path = site.configure(["snow-2"])
    path.write_text(broken(path)[1][0], encoding="utf-8")
    assert site.start().wait_end() == 78
    assert site.daemon.said("uplink.ofset_s")


def test_one_that_is_wrong_by_now_ends_it_with_both_lists(site: Site) -> None:
    path = site.configure(["snow-2"], username="u", password_file="secret")
    secret = site.folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text("pass", encoding="utf-8")
    site.start()
    site.wait_online()
    assert site.stop() == 0
    path.write_text(broken(path)[1][0], encoding="utf-8")
    secret.unlink()
    assert site.start().wait_end() == 78
    assert site.daemon.said("uplink.ofset_s")
    assert site.daemon.said("the last good one is no use either")
    assert site.daemon.said("uplink.password_file", "cannot be read")


def test_a_damaged_one_is_passed_over_and_replaced(site: Site) -> None:
    path = site.configure(["snow-2"])
    good = started_and_stopped(site)
    (kept,) = (site.folder / "state").glob("last-good-*")
    kept.write_bytes(kept.read_bytes()[:100])
    assert started_and_stopped(site) == good
    assert site.daemon.said("passed over", kept.name)
    path.unlink()
    assert started_and_stopped(site) == good


def test_a_valid_one_with_which_nothing_starts_is_refused_too(site: Site) -> None:
    path = site.configure(["snow-2"])
    good = started_and_stopped(site)
    right = path.read_text(encoding="utf-8")
    (site.folder / "file").touch()
    wrong = right.replace(str(site.spool), str(site.folder / "file" / "spool.db"))
    path.write_text(wrong, encoding="utf-8")
    site.start()
    site.wait_online()
    assert site.daemon.said("spool.path", "cannot be moved")
    assert site.statuses()[-1]["config"] == good

    # The same at a reload: the old one comes back, in a new run.
    site.daemon.reload()
    site.daemon.wait_log("event=started", times=2)
    assert len(site.daemon.said("refused, the next one is tried")) == 2
    site.wait_records("snow-2", 1)
    previous = list(site.start_records().values())[-1]["previous"]
    site.produced[previous["run"]] = previous["produced"]
    assert site.stop() == 0
    assert {heard.document["config"] for heard in site.heard if heard.lane == "live"} == {good}
    site.close_account()
