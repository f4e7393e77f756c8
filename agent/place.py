"""Where a gateway's things are, for tools that must work when it does not.

A configuration that is wrong elsewhere still says where the spool is; one that cannot be read at
all is answered for by the last good one, which is what runs then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.load import ConfigError, Problem, read
from config.model import ControlTable, GatewayTable, SpoolTable


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
    try:
        return Place(
            config_file,
            GatewayTable.model_validate(document.get("gateway", {})),
            SpoolTable.model_validate(document.get("spool", {})),
            ControlTable.model_validate(document.get("control", {})),
        )
    except ValidationError as exc:
        what = "; ".join(str(each["msg"]) for each in exc.errors(include_url=False))
        raise ConfigError([Problem(str(config_file), "", what)]) from exc
