"""The documents generated from the models are the committed ones."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from agent import schemas

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
