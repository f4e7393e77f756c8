"""A configuration on trial, with a real daemon: it holds, or the one before runs again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import Any

import pytest

from agent.applied import Applied
from agent.asking import ask
from tests.e2e.conftest import CONTROL_SOCKET, WAIT_S, Site


@pytest.fixture
def site(site: Site) -> Site:
    """A site with a folder for its state, as systemd gives one."""
    site.environment["STATE_DIRECTORY"] = str(site.folder / "state")
    return site


class Verb:
    """`yukimi config ...` as a process; it goes on while the test looks elsewhere."""

    def __init__(self, site: Site, *words: str) -> None:
        config = str(site.folder / "gateway.toml")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "agent", "config", *words, "--config", config, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=site.folder,
            env=os.environ | site.environment,
        )

    def end(self) -> tuple[int, dict[str, Any]]:
        """Return the exit code and what it said."""
        out, err = self._process.communicate(timeout=3 * WAIT_S)
        assert out, err
        return self._process.returncode, json.loads(out)


def write(site: Site, name: str, text: str) -> str:
    path = site.folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def listed(site: Site) -> list[tuple[str, str]]:
    """Return who asked for what, and what came of it."""
    (folder,) = (site.folder / "state").glob("config-*")
    return [(each.by.partition(":")[0], each.outcome) for each in Applied(folder).entries()]


def begun(site: Site) -> str:
    """Start with one sensor, all well; return the configuration's text."""
    text = site.configure(["snow-2"], drain_s=1.0).read_text(encoding="utf-8")
    site.start({"agent.direct.SPARE_S": 1.0})  # a sensor that is silent is found so sooner
    site.wait_records("snow-2", 2)
    return text


def runs(site: Site) -> str:
    """Return the id of the configuration that runs, as the city was told."""
    return str([each for each in site.statuses() if each["state"] == "online"][-1]["config"])


def close(site: Site) -> None:
    assert site.stop() == 0
    for values in site.start_records().values():
        if values["previous"] is not None:
            site.produced[values["previous"]["run"]] = values["previous"]["produced"]
    site.close_account()


def other(text: str) -> str:
    return text.replace('"Bench"', '"Another bench"')


def test_a_good_one_is_confirmed_and_holds_until_the_file_is_edited(site: Site) -> None:
    text = begun(site)
    first = runs(site)
    code, told = Verb(site, "apply", write(site, "new.toml", other(text)), "--within", "30").end()
    assert (code, told["outcome"]) == (0, "confirmed"), told
    assert runs(site) == told["config"] != first
    assert (site.folder / "gateway.toml").read_text(encoding="utf-8") == text
    assert listed(site) == [("file", "confirmed"), ("local", "confirmed")]
    _, checked = Verb(site, "check").end()
    assert checked["applied"] == told["number"]
    _, diff = Verb(site, "diff").end()
    assert any(line.startswith("+") and "Another bench" in line for line in diff["diff"])
    assert site.stop() == 0

    site.start()
    site.wait_online()
    assert runs(site) == told["config"]
    site.wait_records("snow-2", 2)
    code, back = Verb(site, "rollback", "--within", "30").end()
    assert (code, back["outcome"], back["again"]) == (0, "confirmed", 1), back
    assert runs(site) == first

    write(site, "gateway.toml", text.replace('"Bench"', '"Third bench"'))
    site.daemon.reload()
    site.daemon.wait_log("was edited since configuration 3")
    site.wait_until(lambda: listed(site)[-1] == ("file", "confirmed"), "the file's entry")
    close(site)


def test_one_that_does_not_connect_returns_by_itself(site: Site) -> None:
    text = begun(site)
    first = runs(site)
    wrong = text.replace(site.url, "mqtt://127.0.0.1:1")
    code, told = Verb(site, "apply", write(site, "new.toml", wrong), "--within", "5").end()
    assert (code, told["outcome"]) == (1, "returned")
    assert "no connection to the broker" in told["why"]
    site.wait_records("snow-2", 1)
    assert runs(site) == first
    site.wait_until(
        lambda: any("no connection" in str(each) for each in site.records(lane="alert")),
        "the alert",
    )
    code, told = Verb(site, "apply", write(site, "new.toml", "[uplink]\nbroker = 1")).end()
    assert code == 78
    assert "brokers" in told["error"]["text"]
    assert listed(site) == [("file", "confirmed"), ("local", "returned"), ("local", "refused")]
    close(site)


def test_one_with_which_a_sensor_falls_silent_returns_unless_forced(site: Site) -> None:
    text = begun(site)
    first = runs(site)
    leader, follower = os.openpty()
    try:
        dead = text.replace(site.post.path, os.ttyname(follower))
        name = write(site, "new.toml", dead)
        code, told = Verb(site, "apply", name).end()
        assert (code, told["outcome"]) == (1, "returned")
        assert "snow-2 measured before" in told["why"]
        site.wait_records("snow-2", 1)
        assert runs(site) == first
        code, told = Verb(site, "apply", name, "--force").end()
        assert (code, told["outcome"]) == (0, "confirmed"), told
    finally:
        os.close(leader)
        os.close(follower)
    close(site)


BAD_PORT = "mqtt://127.0.0.1:1"
NOT_MARKED = """
import dataclasses
from agent import applied
_encoded = applied._encoded
applied._encoded = lambda entry: _encoded(
    dataclasses.replace(entry, outcome="confirmed") if entry.outcome == "trial" else entry
)
"""


def killed_in_the_middle(site: Site, *, fault: str, word: str) -> str:
    """Kill the daemon within a trial of a wrong configuration; return what runs afterwards."""
    text = site.configure(["snow-2"], drain_s=1.0).read_text(encoding="utf-8")
    site.start(fault=fault)
    site.wait_records("snow-2", 2)
    document = tomllib.loads(text.replace(site.url, BAD_PORT))
    ask(site.folder / CONTROL_SOCKET, "config-apply", document=document)
    site.daemon.wait_log(word)
    site.daemon.wait_log("event=started", times=2)
    site.kill()
    site.start()
    site.wait_new_run()
    return text


def test_killed_in_the_middle_the_one_before_runs(site: Site) -> None:
    killed_in_the_middle(site, fault="", word="configuration on trial")
    site.wait_online()
    assert site.daemon.said("configuration 2 returned")
    assert listed(site) == [("file", "confirmed"), ("local", "returned")]
    site.wait_records("snow-2", 1)
    close(site)


def test_without_the_mark_of_a_trial_the_wrong_one_would_stay(site: Site) -> None:
    """The negative control: what is tried is written down as confirmed."""
    killed_in_the_middle(site, fault=NOT_MARKED, word="configuration on trial")
    site.daemon.wait_log("configuration 2, which was applied, runs")
    site.daemon.wait_log("Connection refused")
    assert len(site.statuses()) <= 3


def test_without_a_disk_it_is_not_tried_and_the_old_one_goes_on(site: Site) -> None:
    text = begun(site)
    first = runs(site)
    (folder,) = (site.folder / "state").glob("config-*")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    folder.write_bytes(b"")  # what is no folder takes nothing
    code, told = Verb(site, "apply", write(site, "new.toml", other(text))).end()
    assert code == 74
    assert "cannot be written down" in told["error"]["text"]
    site.wait_records("snow-2", 1)
    assert runs(site) == first
    assert len(site.daemon.said("event=started")) == 1
    close(site)
