"""Questions to a person, or to the flags of a command: each is answered once, and rightly.

An answer that was given beforehand is not asked for. What is asked shows its default in brackets,
explains itself on `?`, and is asked again, with the reason, after a wrong answer. Where nobody can
be asked, what has no answer is listed, so that a script can give all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from config.text import Language, Text

T = TypeVar("T", covariant=True)

NOTHING = Text("none", "なし")
NEEDED = Text("an answer is needed here", "ここは入力が必要です")
YES_OR_NO = Text("answer y or n", "y か n で答えてください")
NO_EXPLANATION = Text("y: yes, n: no", "y: はい、n: いいえ")
_YES, _NO = ("y", "yes", "はい", "ｙ", "ｙｅｓ"), ("n", "no", "いいえ", "ｎ", "ｎｏ")


class WrongError(ValueError):
    """An answer is wrong for a reason of its own."""

    def __init__(self, why: Text) -> None:
        super().__init__(why.en)
        self.why = why


class Voice(Protocol):
    """A person at a terminal."""

    def say(self, text: str) -> None:
        """Show a line."""
        ...

    def hear(self, prompt: str, *, is_secret: bool = False) -> str:
        """Return what is answered. Raises KeyboardInterrupt, also where the input ends."""
        ...


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What is asked, and what an answer to it is."""

    flag: str  # by which it can be answered beforehand: "--broker"
    text: Text
    explanation: Text
    parse: Callable[[str], T]  # raises ValueError; unless it is a WrongError, `wrong` says why
    wrong: Text
    default: str | None = None  # None: there must be an answer; "": it may be left out
    is_secret: bool = False
    shown: str = ""  # in brackets, in place of the default


class WrongAnswerError(Exception):
    """An answer that was given beforehand is wrong."""

    def __init__(self, flag: str, answer: str, why: Text) -> None:
        super().__init__(f"{flag} {answer!r}: {why.en}")
        self.flag, self.answer, self.why = flag, answer, why


class Interview:
    """The questions so far: what was given beforehand, who can be asked, what is missing."""

    def __init__(
        self,
        voice: Voice | None,
        given: Mapping[str, str],
        *,
        language: Language,
        takes_defaults: bool = False,
    ) -> None:
        """Ask `voice` what is not in `given` (flag -> answer); None: nobody can be asked.

        With `takes_defaults` nobody is asked what has a default.
        """
        self._voice = voice
        self._given = given
        self._takes_defaults = takes_defaults
        self.language = language
        self.missing: list[str] = []  # flags of questions that found no answer

    @property
    def is_talking(self) -> bool:
        """Whether there is somebody to be asked."""
        return self._voice is not None

    def say(self, text: Text, **fields: object) -> None:
        """Show a line to whoever is there."""
        if self._voice is not None:
            self._voice.say(text.of(self.language, **fields))

    def ask(self, question: Question[T]) -> T | None:
        """Return the answer; None where there is none, which is then in `missing`.

        Raises WrongAnswerError, KeyboardInterrupt.
        """
        answer = self._given.get(question.flag)
        if answer is None and self._takes_defaults:
            answer = question.default
        if answer is not None:
            try:
                return question.parse(answer)
            except ValueError as exc:
                shown = "" if question.is_secret else answer
                raise WrongAnswerError(question.flag, shown, _why(exc, question)) from None
        if self._voice is None:
            self.missing.append(question.flag)
            return None
        return self._ask_aloud(question, self._voice)

    def agree(self, text: Text, *, default: bool = True, **fields: object) -> bool:
        """Ask yes or no; where nobody can be asked, or need be, it is the default."""
        said = text.filled(**fields) if fields else text
        question = Question("--yes", said, NO_EXPLANATION, yes, YES_OR_NO)
        likely, shown = ("y", "Y/n") if default else ("n", "y/N")
        question = replace(question, default=likely, shown=shown)
        if self._voice is None:
            return default
        return bool(self.ask(question))

    def _ask_aloud(self, question: Question[T], voice: Voice) -> T:
        prompt = question.text.of(self.language)
        if question.default is not None:
            shown = question.shown or question.default or NOTHING.of(self.language)
            prompt += f" [{shown}]"
        while True:
            answer = voice.hear(f"{prompt}: ", is_secret=question.is_secret)
            answer = answer if question.is_secret else answer.strip()
            if answer in ("?", "？"):
                voice.say(f"  {question.explanation.of(self.language)}")
                continue
            if not answer and question.default is None:
                voice.say(f"  {NEEDED.of(self.language)}")
                continue
            try:
                return question.parse(answer or question.default or "")
            except ValueError as exc:
                voice.say(f"  {_why(exc, question).of(self.language)}")


def _why(error: ValueError, question: Question[object]) -> Text:
    return error.why if isinstance(error, WrongError) else question.wrong


def yes(answer: str) -> bool:
    """Return whether an answer is yes. Raises ValueError where it is neither yes nor no."""
    if answer.lower() in _YES:
        return True
    if answer.lower() in _NO:
        return False
    raise ValueError(answer)
