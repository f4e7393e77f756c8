"""A gateway as its control socket tells of it."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]

STATISTICS = {"mean": 42.1, "min": 41.8, "max": 42.6, "sd": 0.2, "median": 42.1, "n": 60}


def sensor(name: str, kind: str = "snow", *, state: str = "ok", **more: Any) -> Document:
    """A sensor that measures, or one of people."""
    document: Document = {
        "id": name,
        "driver": "lufft-umb",
        "kind": kind,
        "bus": "/dev/ttyS1",
        "window_s": 60,
        "label": {"ja": f"北3条 {name}", "en": f"N3 {name}"},
        "state": state,
        "since": "2027-01-15T00:00:00.000Z",
        "error": None,
        "record": {
            "start": "2027-01-15T00:10:00.000Z",
            "end": "2027-01-15T00:11:00.000Z",
            "quality": {"flag": "good", "n": 60, "expected": 60},
            "values": {"depth_cm": STATISTICS},
        },
    }
    if kind == "people":
        ways = {way: {"count": 3, "unclamped": 3} for way in ("towards", "away")}
        values = {**ways, "epsilon": "1/4", "noise_sd": 5.64, "ci95": 12}
        document["record"] |= {"values": values}
        return document | {"directions": {"towards": None, "away": None}} | more
    document |= {"failed_polls": 0, "frame_errors": 5, "rate_hz": 0.99, "nominal_rate_hz": 1.0}
    reading = {"value": 42.13, "unit": "cm", "age_s": 0.4, "reasons": []}
    return document | {"readings": {"depth_cm": reading}} | more


def snapshot(*sensors: Document, second: int = 40, **more: Any) -> Document:
    """A gateway with these sensors."""
    return {
        "schema": "yukimi.status/1",
        "state": "running",
        "time": f"2027-01-15T00:11:{second:02}.000Z",
        "gateway": {
            "id": "chikaho-03",
            "label": {"ja": "チ・カ・ホ 北3条", "en": "Chi-Ka-Ho N3"},
            "run": "6e1174fecb8c25f5",
            "version": "0.1.0",
            "config": "3fd3c9a85650",
            "applied": None,
            "policy": "0a89",
            "since": "2027-01-14T00:00:00.000Z",
            "uptime_s": 87100.0 + second,
            "refused": [],
        },
        "uplink": {
            "broker": "mqtts://broker-a.example:8883",
            "protocol": "5",
            "connected_since": "2027-01-15T00:00:00.000Z",
            "reconnects": 0,
            "failure": None,
            "next_attempt_in_s": None,
            "lanes": {
                lane: {"messages_in_flight": 0, "records_waiting": 0}
                for lane in ("alert", "live", "backlog")
            },
            "acknowledged": f"2027-01-15T00:11:{max(0, second - 5):02}.000Z",
            "nobody_subscribes": [],
            "not_authorised": [],
            "cut_short": [],
            "clone_seen": None,
        },
        "spool": {
            "path": "/var/lib/yukimi/spool.db",
            "bytes": 51360,
            "max_bytes": 536870912,
            "waiting": 0,
            "oldest": None,
            "runs": [],
            "outage_days_left": 199.7,
            "volatile": False,
            "why_volatile": None,
            "given_up": 0,
            "damages": 0,
            "age_s": 0.0,
            "error": None,
        },
        "clock": {
            "state": "synced",
            "error_s": 0.02,
            "source": "kernel",
            "last_step": None,
            "trouble": None,
        },
        "alerts": [],
        "sensors": list(sensors),
    } | more


def alert(name: str = "freezing", severity: str = "warning") -> Document:
    """An alert that is raised."""
    return {
        "id": f"id-{name}",
        "sensor": "road-1",
        "alert": name,
        "severity": severity,
        "since": "2027-01-15T00:05:00.000Z",
        "text": {"ja": f"路面の凍結にご注意ください（{name}）。", "en": f"It may freeze ({name})."},
    }


def left(stream: str = "snow-1", seq: int = 7, **more: Any) -> Document:
    """A record that left."""
    record = {
        "stream": stream,
        "seq": seq,
        "start": "2027-01-15T00:10:00.000Z",
        "end": "2027-01-15T00:11:00.000Z",
        "quality": {"flag": "good", "n": 60, "expected": 60},
        "values": {"depth_cm": STATISTICS},
    }
    return {"lane": "live", "kind": "snow", "run": "6e11", "record": record | more}
