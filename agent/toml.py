"""Values as TOML writes them, for what is proposed to a technician."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(key: str, value: object) -> str:
    """Write a value as TOML does; addresses as data sheets do."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and "address" in key and value > 9:
        return f"0x{value:02X}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML's escapes are among JSON's
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(key, each) for each in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {toml_value(k, each)}" for k, each in value.items()) + " }"
    return str(value)


def toml_text(document: Mapping[str, Any]) -> str:
    """Write a configuration as a file of TOML, one key a line."""
    return "\n".join(_lines(document, "")).strip("\n") + "\n"


def _lines(table: Mapping[str, Any], where: str) -> Iterator[str]:
    below = {key: each for key, each in table.items() if _holds_tables(each)}
    for key, value in table.items():
        if key not in below:
            yield f"{_key(key)} = {toml_value(key, value)}"
    for key, value in below.items():
        here = f"{where}.{_key(key)}" if where else _key(key)
        for each in value if isinstance(value, list) else [value]:
            yield ""
            yield f"[[{here}]]" if isinstance(value, list) else f"[{here}]"
            yield from _lines(each, here)


def _holds_tables(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(each, Mapping) for each in value)
    return isinstance(value, Mapping)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
