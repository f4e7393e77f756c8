"""`python -m agent.gate arm`, before an upgrade; `run`, from the copy, after it."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Arm, or run; return the exit code."""
    match arguments:
        case ["arm"]:
            from .keep import arm

            return arm()
        case ["run"]:
            from .trial import run

            return run()
    sys.stderr.write("usage: gate arm | run\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
