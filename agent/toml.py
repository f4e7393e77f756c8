"""Values as TOML writes them, for what is proposed to a technician."""

from __future__ import annotations

from collections.abc import Mapping


def toml_value(key: str, value: object) -> str:
    """Write a value as TOML does; addresses as data sheets do."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and "address" in key and value > 9:
        return f"0x{value:02X}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(key, each) for each in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {toml_value(k, each)}" for k, each in value.items()) + " }"
    return str(value)
