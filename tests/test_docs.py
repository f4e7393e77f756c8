"""The documents generated from the models are the committed ones."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

import drivers
from agent import driver_pages, schemas
from agent.catalogue import CATALOGUE
from agent.plan import plan_of
from config.model import AlertsTable

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.parametrize("path", schemas.documents())
def test_a_generated_document_is_as_committed(path: str) -> None:
    text = schemas.documents()[path]
    assert (DOCS / path).read_text(encoding="utf-8") == text, "run `make schemas`"


def test_no_schema_is_left_that_nobody_generates() -> None:
    committed = {f"schemas/{file.name}" for file in (DOCS / "schemas").iterdir()}
    assert committed == {path for path in schemas.documents() if path.startswith("schemas/")}


@pytest.mark.parametrize("path", [path for path in schemas.documents() if "schemas/" in path])
def test_every_schema_is_one(path: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schemas.documents()[path]))


def test_the_channels_name_messages_that_are_described() -> None:
    document = json.loads(schemas.documents()["asyncapi.yaml"])
    for channel in document["channels"].values():
        assert set(channel["messages"]) <= set(document["components"]["messages"])


def test_no_page_is_left_of_a_device_that_nobody_drives() -> None:
    committed = {f"drivers/{file.name}" for file in (DOCS / "drivers").iterdir()}
    generated = {path for path in schemas.documents() if path.startswith("drivers/")}
    assert committed == generated


@pytest.mark.parametrize("name", drivers.DRIVERS)
def test_a_page_shows_how_to_configure_the_device(name: str) -> None:
    page = schemas.documents()[f"drivers/{name}.md"]
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    document = tomllib.loads(text) | {"uplink": {"brokers": ["mqtt://broker.example"]}}
    (sensor,) = plan_of(document, Path(f"the example in {name}'s spec"), {}).sensors
    assert sensor.options.missing_to_measure() == []


@pytest.mark.parametrize("name", drivers.DRIVERS)
def test_a_page_names_every_option_quantity_and_warning(name: str) -> None:
    page = schemas.documents()[f"drivers/{name}.md"]
    model = drivers.load(name)
    assert all(f"`{option}`" in page for option in model.Options.model_fields)
    assert all(f"`{quantity.name}`" in page for quantity in model.spec.quantities)
    for sentence in (*model.spec.wiring, *model.spec.quirks):
        assert sentence[1:].rstrip(".") in page


def test_every_device_is_in_the_index() -> None:
    index = schemas.documents()["drivers/README.md"]
    assert all(f"[`{name}`]({name}.md)" in index for name in drivers.DRIVERS)


def test_the_schema_asks_for_options_where_a_driver_needs_some() -> None:
    validator = jsonschema.Draft202012Validator(schemas.config_schema())
    sensor = {"id": "door-1", "driver": "beam-pair", "bus": "gpio"}
    document = {"uplink": {"brokers": ["mqtt://b"]}, "sensors": [sensor]}
    (error,) = validator.iter_errors(document)
    assert "options" in error.message
    sensor["options"] = {"pin_a": 1, "pin_b": 2}  # type: ignore[assignment]
    assert validator.is_valid(document)


def test_the_header_is_drawn_with_the_devices_wires() -> None:
    spec = replace(
        drivers.load("bme280").spec,
        header=(("SDA", "pin 3 (GPIO 2)"), ("GND", "pin 6"), ("VIN", "pin 1 (3.3 V)")),
    )
    assert driver_pages.header_sketch(spec).splitlines() == [
        "VIN --       3.3 V  1 | 2  5 V",
        "SDA --  GPIO 2 SDA  3 | 4  5 V",
        "        GPIO 3 SCL  5 | 6  GND         -- GND",
    ]


def test_every_alert_has_its_place_and_every_threshold_its_default() -> None:
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    headed = set(re.findall(r"^### (\w+)$", page, re.MULTILINE))
    assert headed == set(AlertsTable.model_fields)
    assert headed | set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(CATALOGUE)
    blocks = "\n".join(re.findall(r"```toml\n(.*?)```", page, re.DOTALL))
    shown = tomllib.loads(blocks)["alerts"]
    for name, field in AlertsTable.model_fields.items():
        defaults = field.default.model_dump(exclude_none=True)
        told = {"enabled": True} | shown[name]
        assert told == defaults, name


def test_every_link_of_the_page_on_side_doors_leads_somewhere() -> None:
    page = (DOCS / "side-doors.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)", page)
    assert len(links) > 40
    assert [link for link in links if not (DOCS / link).exists()] == []
