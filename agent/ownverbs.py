"""Another verb of this program, run for what it has to say.

In a process of its own, bounded in time and in what it says: one that hangs, or has a bug, costs
its own answer only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SAID_BYTES = 2**20
TIME_S = 90.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, or why it said nothing."""

    out: bytes = b""
    why_not: str | None = None


def run(command: Sequence[str], *, time_s: float = TIME_S, most_bytes: int = SAID_BYTES) -> Said:
    """Run a command; return the last of what it says on stdout, whatever its exit code."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=time_s,
            check=False,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except FileNotFoundError:
        return Said(why_not=f"there is no {command[0]} here")
    except subprocess.TimeoutExpired:
        return Said(why_not=f"{command[0]} took longer than {time_s:g} s")
    except OSError as exc:
        return Said(why_not=f"{command[0]}: {exc.strerror or exc}")
    if not done.stdout:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        return Said(why_not=words[-1][:400] if words else f"{command[0]} said nothing")
    return Said(done.stdout[-most_bytes:])


def document(verb: Sequence[str], config: str, *, time_s: float = TIME_S) -> dict[str, Any] | str:
    """Return what `yukimi VERB --config FILE --json` prints, or why there is nothing."""
    from .cli import VERBS

    if verb[0] not in VERBS:
        return f"this version has no `yukimi {verb[0]}`"
    # As isolated as we are: else root would import what lies in the folder that he stands in.
    isolated = ["-I"] if sys.flags.isolated else []
    command = [sys.executable, *isolated, "-m", "agent", *verb, "--config", config, "--json"]
    said = run(command, time_s=time_s)
    if said.why_not is not None:
        return said.why_not
    try:
        found = json.loads(said.out)
    except ValueError:
        return f"`yukimi {' '.join(verb)}` said more than can be taken, or no JSON"
    return found if isinstance(found, dict) else f"`yukimi {' '.join(verb)}` made no sense"
