"""What sensors tell becomes an alert at the city; with the mains gone the gateway says good-bye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.conftest import Site
from tests.e2e.test_alerts import alarms, alerts, wait_alert

# The contact's own life: well for three seconds, then not for the rest of the test.
FAILS_SOON = """
import hil.devices.contact as contact
contact.SHUT_S, contact.OPEN_S = (3.0, 3.0), (600.0, 600.0)
"""


def add_contact(path: Path, measures: str) -> None:
    path.write_text(
        path.read_text(encoding="utf-8")
        + f"""
[[sensors]]
id = "cabinet-1"
driver = "contact"
bus = "walkway"
window_s = 1
label = {{ ja = "収納箱", en = "the cabinet" }}
options = {{ pin = 22, measures = "{measures}" }}
""",
        encoding="utf-8",
    )


def positions(site: Site, **wanted: Any) -> list[int]:
    """Return where in all that the city heard such a message stands."""
    found = []
    for index, message in enumerate(site.heard):
        bodies = [message.document] if message.lane == "status" else message.records
        if any(all(body.get(k) == v for k, v in wanted.items()) for body in bodies):
            found.append(index)
    return found


def test_an_open_door_is_an_alarm_with_the_place_in_two_languages(site: Site) -> None:
    add_contact(site.configure(["snow-2"]), "open")
    site.start(fault=FAILS_SOON)
    raised = wait_alert(site, "cabinet_door", "raised")
    assert (raised["sensor"], raised["severity"]) == ("cabinet-1", "warning")
    assert "収納箱" in raised["text"]["ja"]
    assert "the cabinet" in raised["text"]["en"]
    site.wait_until(lambda: alarms(site).get("alarm/cabinet-1/cabinet_door") == raised, "the alarm")
    assert site.stop() == 0
    site.check_messages()
    site.close_account()


def test_in_maintenance_the_same_door_is_marked_and_not_told(site: Site) -> None:
    path = site.configure(["snow-2"])
    add_contact(path, "open")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('driver = "contact"', 'driver = "contact"\nmaintenance = true'))
    site.start(fault=FAILS_SOON)

    def is_open_and_marked() -> bool:
        return any(
            each["values"]["open"]["mode"] == "yes" and "maintenance" in each["quality"]["reasons"]
            for each in site.records("cabinet-1")
            if each["values"].get("open") and each["quality"].get("reasons")
        )

    site.wait_until(is_open_and_marked, "an open door in a marked record")
    site.wait_records("cabinet-1", 8)
    assert alerts(site, "cabinet_door") == []
    assert site.stop() == 0
    site.check_messages()


def test_when_the_mains_fail_all_is_sent_and_a_good_bye_follows(site: Site) -> None:
    add_contact(site.configure(["snow-2", "door-1"], window_s=60), "power_ok")
    site.start({"agent.daemon.POWER_REST_S": 2.0}, fault=FAILS_SOON)
    raised = wait_alert(site, "power_fail", "raised")
    assert raised["severity"] == "critical"
    site.wait_until(lambda: bool(positions(site, reason="stopped")), "the good-bye")
    (told,) = positions(site, alert="power_fail")
    good_bye = positions(site, reason="stopped")[0]
    # The alert goes first, then what was open, then the good-bye.
    for stream in ("snow-2", "door-1"):
        # Where a minute ended before the mains failed, there is an earlier one.
        assert any(told < each < good_bye for each in positions(site, stream=stream))
    # There is power after all: a new run, which measures.
    site.wait_until(lambda: len(site.start_records()) == 2, "a second run")
    site.wait_until(lambda: len(positions(site, reason="stopped")) >= 2, "the mains fail again")
    assert site.stop() == 0
    second = list(site.start_records().values())[1]
    assert second["previous"]["clean"] is True
    site.check_messages()
