"""`python -m hil cabinets [NAME...]`: break each cabinet, let the doctor look, print the table."""

from __future__ import annotations

import argparse
import time

from agent.doctor.run import BUG, Result, first_failure

from . import CABINETS, Cabinet, Workshop, skip_reason


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the verb's options."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a cabinet (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a cabinet; return 1 if the doctor was wrong about one."""
    unknown = set(arguments.names) - set(CABINETS)
    if unknown:
        print(f"no such cabinet: {', '.join(sorted(unknown))}; there are {', '.join(CABINETS)}")
        return 2
    wrong = skipped = 0
    for each in [CABINETS[name] for name in arguments.names or CABINETS]:
        why = skip_reason(each)
        if why is not None:
            skipped += 1
            print(f"-      {each.name:<24} {why}")
            continue
        began_s = time.monotonic()
        with Workshop() as workshop:
            each.breaks(workshop)
            results = workshop.examine()
        found = verdict(each, results)
        wrong += found is not None
        first = first_failure(results)
        named = "-" if first is None else first.check.id
        took_s = time.monotonic() - began_s
        print(
            f"{'right' if found is None else 'WRONG':<6} {each.name:<24} {named:<10} "
            f"{took_s:4.1f} s  {each.about}{f': {found}' if found else ''}"
        )
    print(f"{wrong} wrong, {skipped} not built here")
    return 1 if wrong else 0


def verdict(each: Cabinet, results: list[Result]) -> str | None:
    """Say what the doctor got wrong; None where it named the cause, and nothing else."""
    bugs = [result.check.id for result in results if result.done.next is BUG]
    if bugs:
        return f"met a bug in {', '.join(bugs)}"
    failures = [result for result in results if result.done.status == "FAIL"]
    accused = {result.check.id for result in failures}
    if each.cause is None:
        return f"accused {', '.join(sorted(accused))}" if accused else None
    if not failures or failures[0].check.id != each.cause:
        named = failures[0].check.id if failures else "nothing"
        return f"named {named}, not {each.cause}"
    if each.subject and failures[0].name != each.subject:
        return f"named {failures[0].name}, not {each.subject}"
    if each.step not in (failures[0].done.next or ""):
        return f"advised: {failures[0].done.next}"
    others = [f"{r.check.id} [{r.name}]" for r in failures[1:] if r.check.id != each.cause]
    return f"also accused {', '.join(others)}" if others else None
