"""Where a gateway's things are, for tools that must work when it does not.

A configuration that is wrong elsewhere still says where the spool is; one that cannot be read at
all is answered for by the last good one, which is what runs then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config.explain import explain
from config.load import ConfigError, Problem, read, toml_path
from config.model import ControlTable, GatewayTable, SpoolTable

Table = TypeVar("Table", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Place:
    """Who a gateway is and where its things are."""

    config_file: Path
    gateway: GatewayTable
    spool: SpoolTable
    control: ControlTable


def place_of(config_file: Path) -> Place:
    """Return what a configuration says, or the last good one. Raises ConfigError."""
    try:
        return _place(config_file, read(config_file)[0])
    except ConfigError:
        from . import lastgood  # and with it all that knows the drivers

        found = lastgood.find(config_file)
        if found is None:
            raise
        return _place(config_file, found[0].document)


def _place(config_file: Path, document: Mapping[str, Any]) -> Place:
    def table(name: str, model: type[Table]) -> Table:
        try:
            return model.model_validate(document.get(name, {}))
        except ValidationError as exc:
            raise ConfigError(
                Problem(str(config_file), toml_path((name, *where)), what)
                for where, what in explain(exc, model)
            ) from exc

    return Place(
        config_file,
        table("gateway", GatewayTable),
        table("spool", SpoolTable),
        table("control", ControlTable),
    )
