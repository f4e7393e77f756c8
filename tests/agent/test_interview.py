"""Questions: answered once, asked again with the reason, listed where nobody can be asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from agent import questions, typed
from agent.interview import Interview, Question, WrongAnswerError
from config.text import Language, Text

COUNT = Question(
    "--count",
    Text("How many", "何台"),
    Text("Of all.", "全部です。"),
    int,
    Text("a whole number", "整数で入力してください"),
    default="3",
)
NAME = Question("--name", Text("Name", "名前"), Text("Any.", "自由。"), str, Text("text", "文字列"))
SECRET = Question(
    "--secret", Text("Secret", "秘密"), Text("", ""), int, Text("digits", "数字"), is_secret=True
)


class Person:
    """Answers what was prepared, and keeps what was said."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        self.prompts: list[str] = []
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)

    def hear(self, prompt: str, *, is_secret: bool = False) -> str:
        self.prompts.append(prompt)
        return self._answers.pop(0)


def interview(
    person: Person | None,
    given: Iterable[str] = (),
    *,
    language: Language = "en",
    yes: bool = False,
) -> Interview:
    flags = dict(each.split("=", 1) for each in given)
    return Interview(person, flags, language=language, takes_defaults=yes)


def test_enter_takes_the_default_that_stands_in_brackets() -> None:
    person = Person("")
    assert interview(person).ask(COUNT) == 3
    assert person.prompts == ["How many [3]: "]


def test_a_wrong_answer_is_asked_again_with_the_reason() -> None:
    person = Person("many", "4")
    assert interview(person, language="ja").ask(COUNT) == 4
    assert person.heard == ["  整数で入力してください"]
    assert person.prompts == ["何台 [3]: "] * 2


@pytest.mark.parametrize("mark", ["?", "？", " ? "])
def test_a_question_mark_explains(mark: str) -> None:
    person = Person(mark, "5")
    assert interview(person).ask(COUNT) == 5
    assert person.heard == ["  Of all."]


def test_what_has_no_default_wants_an_answer() -> None:
    person = Person("", "x")
    assert interview(person).ask(NAME) == "x"
    assert person.heard == ["  an answer is needed here"]


def test_what_was_given_is_not_asked() -> None:
    person = Person()
    assert interview(person, ["--count=7"]).ask(COUNT) == 7
    assert person.prompts == []


def test_a_wrong_answer_that_was_given_is_an_error_and_no_secret_is_in_it() -> None:
    with pytest.raises(WrongAnswerError, match="--count 'x': a whole number"):
        interview(None, ["--count=x"]).ask(COUNT)
    with pytest.raises(WrongAnswerError) as caught:
        interview(None, ["--secret=hush"]).ask(SECRET)
    assert "hush" not in str(caught.value)


def test_where_nobody_can_be_asked_all_that_is_missing_is_listed() -> None:
    nobody = interview(None)
    assert (nobody.ask(COUNT), nobody.ask(NAME)) == (None, None)
    assert nobody.missing == ["--count", "--name"]


def test_with_all_defaults_only_what_has_none_is_asked() -> None:
    person = Person("x")
    some = interview(person, yes=True)
    assert (some.ask(COUNT), some.ask(NAME)) == (3, "x")
    assert person.prompts == ["Name: "]


@pytest.mark.parametrize(("answer", "agreed"), [("", True), ("n", False), ("いいえ", False)])
def test_yes_or_no(answer: str, agreed: bool) -> None:
    person = Person(answer)
    assert interview(person).agree(Text("Take {it}?", "{it}？"), it="it") is agreed
    assert person.prompts == ["Take it? [Y/n]: "]


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("43.0640, 141.3510", (43.064, 141.351)),
        ("43.0640 141.3510", (43.064, 141.351)),
        ("４３．０６、１４１．３５", (43.06, 141.35)),
        ("", None),
    ],
)
def test_a_location_as_people_write_it(answer: str, place: tuple[float, float] | None) -> None:
    assert questions.LOCATION.parse(answer) == place


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (questions.LOCATION, "141.35, 43.06"),  # the wrong way round
        (questions.LOCATION, "43.06"),
        (questions.LOCATION, "nan, 141"),
        (questions.ID, "Kita 3"),
        (questions.ID, ""),
        (questions.BROKERS, "broker.example"),
        (questions.BROKERS, "mqtts://me:secret@broker.example"),
        (questions.BROKERS, "https://broker.example"),
        (questions.WINDOW, "7"),
        (questions.WINDOW, "1.5"),
        (questions.WINDOW, "0"),
        (questions.LABEL_JA, "北3条\x1b[2J"),
        (questions.LABEL_JA, "a\u202eb"),
        (questions.CA_FILE, "/nonexistent/ca.pem"),
        (questions.SPOOL, "/etc/passwd/no/spool.db"),
        (questions.SPOOL, "/tmp"),
        (questions.CLOCK, "yes"),
        (questions.PASSWORD, ""),
    ],
)
def test_what_a_configuration_would_refuse_is_refused_at_once(
    question: Question[object], answer: str
) -> None:
    with pytest.raises(WrongAnswerError, match=re.escape(question.wrong.en)):
        Interview(None, {question.flag: answer}, language="en").ask(question)


def test_several_brokers_and_wide_letters() -> None:
    assert typed.brokers("mqtts://a、 ｍｑｔｔ://b:1883") == ["mqtts://a", "mqtt://b:1883"]
