"""Raw traffic of a bus, written for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

BYTES_SHOWN = 128  # of one transaction
TEXT_SHOWN = 200


def raw_text(entry: Mapping[str, Any]) -> str:
    """Write an entry of a recording for people; --json has it whole."""
    hexed = {name: _spaced(entry[name]) for name in ("rx", "tx", "write", "read") if name in entry}
    words = []
    if "address" in entry:
        words.append(f"0x{entry['address']:02x}")
    words += [entry[name] for name in ("port", "path") if name in entry]
    words += [f"{name} {bytes_}".rstrip() for name, bytes_ in hexed.items()]
    if "pin" in entry:
        words.append(f"pin {entry['pin']} level {entry['level']}")
    if "text" in entry:
        words.append(json.dumps(entry["text"][:TEXT_SHOWN], ensure_ascii=False))
    words += [f"{name} {entry[name]}" for name in ("names", "baud", "error") if name in entry]
    return "  ".join(words)


def _spaced(text: str) -> str:
    with suppress(ValueError):
        raw = bytes.fromhex(text)
        more = f" ... {len(raw)} bytes" if len(raw) > BYTES_SHOWN else ""
        return raw[:BYTES_SHOWN].hex(" ") + more
    return text
