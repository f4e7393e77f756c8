"""A new configuration is taken without losing a record; a wrong one changes nothing."""

from __future__ import annotations

import pytest

from agent.spool import Spool
from hil.ledger import glance
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


def test_a_removed_sensors_records_still_leave_under_the_configuration_that_measured_them(
    site: Site,
) -> None:
    site.configure(["door-1", "snow-2"])
    site.start()
    site.wait_records("door-1", 1)
    before = site.statuses()[-1]["config"]
    site.relay.cut()
    site.wait_grown(4)
    site.configure(["snow-2"])
    site.daemon.reload()
    site.daemon.wait_log("event=started", times=2)
    note_previous(site)
    site.relay.resume()
    site.wait_records("snow-2", 1)
    assert site.stop() == 0
    site.close_account()
    late = [heard.document for heard in site.heard if heard.lane == "backlog"]
    streams = {record["stream"]: batch["config"] for batch in late for record in batch["records"]}
    assert streams["door-1"] == before
    assert site.statuses()[-2]["config"] != before


def note_previous(site: Site) -> None:
    """Note what the run before the latest has produced, from its spool."""
    with glance(site.spool) as database:
        run, name = database.execute(
            "SELECT id, run FROM run WHERE id < (SELECT max(id) FROM run) ORDER BY id DESC"
        ).fetchone()
        rows = database.execute("SELECT stream, seq FROM produced WHERE run = ?", (run,))
        site.produced[name] = dict(rows.fetchall())


@pytest.mark.parametrize("how", ["reload", "stop", "kill"])
def test_records_follow_to_another_spool(site: Site, how: str) -> None:
    site.environment["STATE_DIRECTORY"] = str(site.folder / "state")
    site.configure(["snow-2"])
    site.start()
    site.wait_records("snow-2", 1)
    site.relay.cut()
    site.wait_grown(3)
    old = site.spool
    if how == "stop":
        assert site.stop() == 0
    if how == "kill":
        site.kill()
    site.spool = site.folder / "elsewhere" / "other.db"
    site.configure(["snow-2"])
    if how == "reload":
        site.daemon.reload()
        site.daemon.wait_log("event=started", times=2)
        note_previous(site)
    else:
        site.start()
    site.daemon.wait_log("were moved to", "elsewhere/other.db")
    site.relay.resume()
    site.wait_online()
    assert site.stop() == 0
    site.close_account()
    assert not old.exists()


def test_where_they_cannot_follow_the_change_is_refused_and_says_what_to_do(site: Site) -> None:
    site.environment["STATE_DIRECTORY"] = str(site.folder / "state")
    old, other = site.spool, site.folder / "other.db"
    site.configure(["snow-2"])
    site.start()
    site.wait_records("snow-2", 1)
    path = site.folder / "gateway.toml"
    right = path.read_text(encoding="utf-8")
    Spool(other, max_bytes=2**24, run="foreign", boot_id="boot").close(clean=True)
    path.write_text(right.replace(str(old), str(other)), encoding="utf-8")
    site.daemon.reload()
    site.daemon.wait_log("spool.path", f"move {other} away, or delete it; or name {old} again")
    site.daemon.wait_log('event="configuration refused"')
    site.wait_records("snow-2", 1)
    assert site.stop() == 0

    site.start()  # a start refuses it too, and the last good one runs
    site.wait_online()
    assert site.daemon.said("spool.path", f"move {other} away, or delete it")
    assert site.stop() == 0
    assert len(site.produced) == 2
    other.unlink()
    site.spool = other
    site.start()
    site.daemon.wait_log("were moved to")
    site.wait_online()
    assert site.stop() == 0
    site.close_account()


def test_what_waits_when_the_gateway_is_renamed_leaves_under_the_new_id(site: Site) -> None:
    site.configure(["snow-2"])
    site.start()
    site.wait_records("snow-2", 1)
    site.relay.cut()
    site.wait_grown(3)
    waiting = site.kill().waiting
    site.configure(["snow-2"], gateway="site-02")
    site.start()
    site.daemon.wait_log("records measured as site-01 leave under site-02")
    site.relay.resume()

    def came() -> set[tuple[str, str, int]]:
        return {
            (heard.document["run"], record["stream"], record["seq"])
            for heard in list(site.heard)
            if heard.gateway == "site-02" and heard.lane != "status"
            for record in heard.records
        }

    site.wait_until(lambda: waiting <= came(), "what waited, under the new id")
    assert site.stop() == 0
    site.check_messages()


def test_a_stop_during_a_reload_is_a_stop(site: Site) -> None:
    site.configure(["snow-2"])
    site.start()
    site.wait_online()
    site.daemon.reload()
    assert site.stop() == 0
    assert len(site.daemon.said("event=started")) <= 2
    site.close_account()


def test_reloads_in_a_row_end_with_what_was_written_last(site: Site) -> None:
    site.configure(["snow-2"])
    site.start()
    site.wait_online()
    for sensors in (["door-1", "snow-2"], ["door-1"], ["snow-2"], ["door-1"]):
        site.configure(sensors)
        site.daemon.reload()
    site.wait_records("door-1", 1)
    site.wait_until(
        lambda: [s["id"] for s in site.statuses()[-1].get("sensors", ())] == ["door-1"],
        "the birth with the last configuration",
    )
    assert site.stop() == 0
