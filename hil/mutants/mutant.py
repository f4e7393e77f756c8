"""One planted defect: what is changed, what that would do in the field, and who must notice."""

from __future__ import annotations

import ast
import threading
from dataclasses import dataclass
from pathlib import Path

FLOORS = ("agent", "drivers", "config")  # the daemon; nothing else is worth a mutant

# Python 3.11 counts the depth of a tree for all threads together: a collection of garbage lets
# another thread parse, and one is told "AST constructor recursion depth mismatch" (gh-106905).
_PARSER = threading.Lock()


class StaleError(Exception):
    """The mutant does not fit the source any more; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """An exact change to one file of the daemon, and the tests that must fail by it."""

    name: str
    story: str  # one sentence: what it would do in the field
    file: str
    old: str  # stands in the file exactly once
    new: str
    caught_by: tuple[str, ...]  # node ids of pytest; with the change, one of them fails
    # What the failure says, where it is no plain assertion: the daemon's own complaint, say.
    says: str = ""

    def applied(self, root: Path) -> str:
        """Return the file's text with the defect in it. Raises StaleError."""
        if self.file.partition("/")[0] not in FLOORS:
            raise StaleError(f"{self.name}: {self.file} is no file of {', '.join(FLOORS)}")
        try:
            text = (root / self.file).read_text(encoding="utf-8")
        except OSError as exc:
            raise StaleError(f"{self.name}: {self.file}: {exc.strerror}") from exc
        times = text.count(self.old)
        if times != 1 or self.old == self.new:
            raise StaleError(
                f"{self.name}: what it changes stands {times} times in {self.file}, not once: the "
                "source has moved on; write the mutant anew"
            )
        changed = text.replace(self.old, self.new)
        try:
            with _PARSER:
                before, after = ast.dump(ast.parse(text)), ast.dump(ast.parse(changed))
        except SyntaxError as exc:
            raise StaleError(f"{self.name}: {self.file} does not compile: {exc}") from exc
        if before == after:
            raise StaleError(f"{self.name}: changes nothing that runs in {self.file}")
        return changed
