"""What is said on the retained topics of alerts, and how it is labelled."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from agent.alarmtopics import AlarmTopics
from agent.fresh import Fresh
from agent.session import Session

RAISED = {"sensor": "snow-1", "alert": "x", "state": "raised", "time": "2027-01-15T00:00:00.000Z"}


class Written:
    """Stands for the client: what was published."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str | bytes, Any]] = []

    def publish(
        self, topic: str, payload: str | bytes, *, qos: int, retain: bool, properties: Any
    ) -> SimpleNamespace:
        assert (qos, retain) == (1, True)
        self.messages.append((topic, payload, properties))
        return SimpleNamespace(mid=len(self.messages))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_an_alarm_says_what_it_is_and_an_empty_one_nothing(
    protocol: Literal["5", "3.1.1"],
) -> None:
    written: Any = Written()
    session = Session("y/g1", "mqtt://a", protocol, client=written, is_online=True)
    alarms = AlarmTopics(session, Fresh(6.0, {}), lambda: 0, lambda: 0.0)
    alarms.show(RAISED, "{}")
    alarms.show(RAISED | {"state": "cleared"}, "{}")
    (topic, body, label), (same, empty, nothing) = written.messages
    assert topic == same == "y/g1/alarm/snow-1/x"
    assert (body, empty, nothing) == ("{}", b"", None)
    if protocol == "5":
        assert label.ContentType == "application/json"
        assert label.UserProperty == [("schema", "yukimi.alarm/1")]
    else:
        assert label is None
