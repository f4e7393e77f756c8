"""What only looks needs no signature, so that a broker may ask for it all day: what that may cost.

Whoever asks again under the same verb and ID gets the same answer, as long as that is remembered.
What runs in a process of its own is begun once in a while only.
"""

from __future__ import annotations

import math

from config.model import Verb

from .command import RefusedError

REMEMBERED = 32  # answers; it may be asked again without harm
REMEMBERED_BYTES = 524_288
SLOW: frozenset[Verb] = frozenset(("doctor", "report"))
SLOW_EACH_S = 300.0


class Looks:
    """The answers of one life, bounded in number and bytes; the newest is always there."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Verb, str], bytes] = {}
        self._bytes = 0
        self._began_s: dict[tuple[Verb, bool], float] = {}

    def answered(self, verb: Verb, id_: str) -> bytes | None:
        """Return what was answered under this verb and ID."""
        return self._answers.get((verb, id_))

    def remember(self, verb: Verb, id_: str, answer: bytes) -> None:
        """Keep an answer, and let the oldest go that there is no room for."""
        self._answers[verb, id_] = answer
        self._bytes += len(answer)
        while len(self._answers) > REMEMBERED or (
            self._bytes > REMEMBERED_BYTES and len(self._answers) > 1
        ):
            self._bytes -= len(self._answers.pop(next(iter(self._answers))))

    def begin(self, verb: Verb, now_s: float, *, is_signed: bool) -> None:
        """Begin to look. Raises RefusedError where that was done a moment ago.

        Signed and unsigned are counted apart: nobody keeps away who may sign.
        """
        if verb not in SLOW:
            return
        again_in_s = self._began_s.get((verb, is_signed), -math.inf) + SLOW_EACH_S - now_s
        if again_in_s > 0:
            whole_s = math.ceil(again_in_s)
            told = f"{verb} is done once in {SLOW_EACH_S:.0f} s: again in {whole_s} s"
            raise RefusedError("too_many", told, again_in_s=whole_s)
        self._began_s[verb, is_signed] = now_s
