"""The trial: tests pass on the untouched source, and fail, for the right reason, on each mutant.

A mutant that survives is a promise that nobody checks. One that does not fit the source, whose
tests do not pass without it, or that only breaks the tests (it does not import, a fixture errs, a
test times out) proves nothing either, and fails the trial.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .mutant import Mutant, StaleError
from .tree import Case, Told, Tree

Outcome = Literal["caught", "survived", "stale", "wrong reason"]

# How a broken promise looks in pytest's line about it.
ASSERTIONS = ("assert ", "AssertionError", "Failed: DID NOT RAISE")
NO_ASSERTIONS = ("Failed: Timeout",)
TAIL = 3000  # characters of what is shown of a run


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one mutant."""

    mutant: Mutant
    outcome: Outcome
    took_s: float = 0.0
    by: str = ""  # the test that failed
    why: str = ""


class BaselineError(Exception):
    """The tests do not pass on the untouched source, so that they prove nothing."""


class Trial:
    """Mutants of the source in one folder."""

    def __init__(self, source: Path, jobs: int = 1) -> None:
        self._source = source
        self._jobs = jobs
        self._folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        self._base = Tree.copied(source, self._folder / "base")

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def prove_sound(self, mutants: Sequence[Mutant]) -> float:
        """Run all their tests on the untouched source; return how long that took, in seconds.

        Raises BaselineError.
        """
        nodes = list(dict.fromkeys(node for each in mutants for node in each.caught_by))
        # By file, so that each is loaded once.
        files = sorted({node.partition("::")[0] for node in nodes})
        shares = [files[at :: self._jobs] for at in range(self._jobs)]
        parts = [[n for n in nodes if n.partition("::")[0] in share] for share in shares if share]
        with ThreadPoolExecutor(self._jobs) as pool:
            runs = list(pool.map(self._base.pytest, parts, range(len(parts))))
        wrong = [
            why for part, told in zip(parts, runs, strict=True) for why in _unsound(part, told)
        ]
        if wrong:
            raise BaselineError("\n".join(wrong))
        return max(told.took_s for told in runs)

    def verdicts(self, mutants: Sequence[Mutant]) -> Iterator[Verdict]:
        """Try each; yield what became of it, as it comes."""
        pool = ThreadPoolExecutor(self._jobs)
        try:
            tries = [pool.submit(self.verdict, mutant) for mutant in mutants]
            for each in as_completed(tries):
                yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def verdict(self, mutant: Mutant) -> Verdict:
        """Plant one mutant in a copy of its own, and let its tests look for it."""
        tree = Tree.copied(self._base.folder, self._folder / mutant.name, with_caches=True)
        try:
            tree.plant(mutant)
            return judged(mutant, tree.pytest(mutant.caught_by, 0, "-x"))
        except StaleError as exc:
            return Verdict(mutant, "stale", why=str(exc))
        finally:
            tree.remove()


def judged(mutant: Mutant, told: Told) -> Verdict:
    """Say what a run of its tests means for a mutant."""
    failed = [case for case in told.cases if case.result == "failed"]
    right = [case for case in failed if _is_right(mutant, case)]
    if right:
        return Verdict(mutant, "caught", told.took_s, by=right[0].name, why=right[0].message)
    if told.cases and all(case.result == "passed" for case in told.cases):
        return Verdict(mutant, "survived", told.took_s)
    why = next((f"{case.name}: {case.message}" for case in failed), told.output[-TAIL:])
    return Verdict(mutant, "wrong reason", told.took_s, why=why)


def _is_right(mutant: Mutant, case: Case) -> bool:
    if case.message.startswith(NO_ASSERTIONS):
        return False
    if mutant.says:
        return mutant.says in f"{case.message}\n{case.text}"
    return case.message.startswith(ASSERTIONS)


def _unsound(nodes: Sequence[str], told: Told) -> Iterator[str]:
    bad = [case for case in told.cases if case.result != "passed"]
    yield from (f"{case.name}: {case.result}: {case.message}" for case in bad)
    if not told.cases:
        yield f"{', '.join(nodes)}: not run\n{told.output[-TAIL:]}"
