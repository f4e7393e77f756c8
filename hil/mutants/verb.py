"""`python -m hil mutants`: plant every defect, let its tests look for it, print the table."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import CATALOGUE, MUTANTS, Mutant
from .trial import BaselineError, Trial, Verdict

ROOT = Path(__file__).resolve().parents[2]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("--list", action="store_true", help="say what there is; plant nothing")
    parser.add_argument("--markdown", action="store_true", help="with --list: docs/mutants.md")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a mutant; return 1 if one is not caught."""
    if arguments.list:
        print(page() if arguments.markdown else _lines(), end="")
        return 0
    unknown = set(arguments.only or ()) - {each.name for each in MUTANTS}
    if unknown:
        print(f"no such mutant: {', '.join(sorted(unknown))}; see --list", file=sys.stderr)
        return 2
    chosen = [each for each in MUTANTS if not arguments.only or each.name in arguments.only]
    # Beside the source, not beside its copies.
    os.environ.setdefault("YUKIMI_RECORDINGS", str(ROOT.parent / "shared" / "recordings"))
    verdicts = []
    with Trial(ROOT, max(1, arguments.jobs)) as trial:
        try:
            sound_s = trial.prove_sound(chosen)
        except BaselineError as exc:
            print(f"the tests do not pass on the untouched source:\n{exc}", file=sys.stderr)
            return 1
        print(f"control: all their tests pass on the untouched source, {sound_s:.1f} s", flush=True)
        for verdict in trial.verdicts(chosen):
            verdicts.append(verdict)
            print(_line(verdict), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(_document(verdicts, sound_s), indent=1) + "\n")
    wrong = [each for each in verdicts if each.outcome != "caught"]
    print(f"{len(verdicts) - len(wrong)} of {len(verdicts)} caught", end="")
    print("".join(f"\n{each.outcome}: {each.mutant.name}" for each in wrong))
    return 1 if wrong else 0


def page() -> str:
    """Return docs/mutants.md."""
    return PAGE.format(
        count=len(MUTANTS),
        tables="\n\n".join(f"## {title}\n\n{_table(each)}" for title, each in CATALOGUE.items()),
    )


def _table(mutants: Sequence[Mutant]) -> str:
    rows = [("mutant", "what it would do in the field", "planted in", "caught by")]
    rows += [("---",) * 4]
    rows += [
        (f"`{m.name}`", m.story, m.file, "<br>".join(map(_short, m.caught_by))) for m in mutants
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _short(node: str) -> str:
    """Return a node id as it is read."""
    file, _, test = node.partition("::")
    return f"{file.removeprefix('tests/')}: {test.removeprefix('test_').replace('_', ' ')}"


def _lines() -> str:
    return "".join(f"{m.name:<28} {m.file:<28} {m.story}\n" for m in MUTANTS)


def _line(verdict: Verdict) -> str:
    name, by = verdict.mutant.name, verdict.by.rpartition("::")[2]
    if verdict.outcome == "caught":
        return f"caught   {name:<28} {verdict.took_s:5.1f} s  by {by}"
    told = f"\n         {verdict.why}" if verdict.why else ""
    return f"{verdict.outcome.upper()} {name} {verdict.took_s:.1f} s: {verdict.mutant.story}{told}"


def _document(verdicts: Sequence[Verdict], sound_s: float) -> dict[str, object]:
    return {
        "schema": "yukimi.mutants/1",
        "control_s": round(sound_s, 1),
        "mutants": [
            {
                "name": each.mutant.name,
                "story": each.mutant.story,
                "file": each.mutant.file,
                "tests": list(each.mutant.caught_by),
                "outcome": each.outcome,
                "by": each.by,
                "why": each.why,
                "took_s": round(each.took_s, 1),
            }
            for each in verdicts
        ],
    }


PAGE = """\
<!-- Written by `python -m hil mutants --list --markdown`; do not edit. -->

# Planted defects

A test that cannot fail proves nothing. So the promises of the daemon are broken on purpose, one by
one: {count} small changes, each of which would cost a city something, and each with the test that
must notice it.

```
make mutants                                      # all of them
python -m hil mutants --list                      # what there is
python -m hil mutants --only no-sync no-jitter    # some
python -m hil mutants --jobs 4 --json mutants.json
```

First the named tests run on the untouched source, and must pass. Then each change is made in a copy
of the source of its own, and its tests run there. A mutant is

- **caught** where one of its tests fails on an assertion, or with the complaint that it names;
- **survived** where they all pass: nobody checks the promise;
- **stale** where the text that it changes does not stand in its file exactly once, or where the
  changed file does not compile: the source has moved on;
- **wrong reason** where the tests did not get so far: an import, a fixture, an exception that says
  nothing of the promise, a time-out.

Anything but caught is named, and the exit code is 1. No mutant is ever passed over. The tests of
every change see that all mutants fit, that their tests exist, that this page is theirs, and plant a
few; `make mutants` plants all, in about five minutes of processor time.

To add one, write a `Mutant` into the file of its floor in `hil/mutants`: its name, its story in one
sentence (what somebody in the field would see), the file, the exact old text and the new one, and
the one test that should notice it, the fastest that does so honestly. If none does, that is the
find: write the test first. `says` is for failures that are no assertions. Then write this page anew
(`python -m hil mutants --list --markdown > docs/mutants.md`).

{tables}
"""
