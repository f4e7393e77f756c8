"""Numbers from outside: what nobody can mean is refused before it is built."""

from __future__ import annotations

import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.plan import plan_of
from config import exact
from config.exact import MOST_CHARACTERS, MOST_EXPONENT, fraction
from config.load import ConfigError, load

EXAMPLE = Path(exact.__file__).parent / "examples" / "walkway.toml"
LARGEST = 10 ** (MOST_CHARACTERS + MOST_EXPONENT)
TOO_LONG = 16**5000  # more digits than Python prints


@given(st.text("0123456789eE+-_./ ", max_size=60))
def test_a_fraction_is_what_python_says_or_none_at_all(text: str) -> None:
    try:
        found = fraction(text)
    except (ValueError, ZeroDivisionError):
        return
    assert found == Fraction(text)
    assert abs(found.numerator) < LARGEST
    assert found.denominator < LARGEST


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(-99, 99))
def test_what_anybody_would_write_is_a_fraction(above: int, below: int, exponent: int) -> None:
    assert fraction(f"{above}/{below}") == Fraction(above, below)
    assert fraction(f"{above}e{exponent}") == Fraction(above) * Fraction(10) ** exponent


@pytest.mark.parametrize("text", [
    "1e-999999999", "1E999999999", "1e-9_9_9_9_9_9_9_9_9", "1e+0999999999 ", "1e100", "1" * 41,
    "1/" + "9" * 4000,
])  # fmt: skip
def test_a_fraction_that_would_take_all_memory_is_none(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def builds(_: str) -> Fraction:  # without the bound it would take for ever
        raise AssertionError("it is built")

    monkeypatch.setattr(exact, "Fraction", builds)
    with pytest.raises(ValueError, match=r"more than|beyond"):
        fraction(text)


@pytest.mark.parametrize("key", ["privacy.flow.epsilon", "privacy.day_limit"])
def test_a_configuration_with_such_a_number_is_refused_in_words(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(changed(tuple(key.split(".")), "1e-999999999"), EXAMPLE, {})
    assert [each.path for each in caught.value.problems] == [key]


WHERE = [("uplink", "inflight"), ("gateway", "owner"), ("sensors", 0, "window_s"),
         ("sensors", 0, "options", "x")]  # fmt: skip


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("value", [TOO_LONG, 2**63, -(2**63) - 1], ids=["long", "high", "low"])
def test_a_whole_number_beyond_64_bits_is_refused_where_it_stands(
    where: tuple[str | int, ...], value: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(changed(where, value), EXAMPLE, {})
    (problem,) = caught.value.problems
    assert "64 bits" in problem.what
    assert problem.path.endswith(str(where[-1]))


@pytest.mark.parametrize("digits", ["9" * 5000, "0x" + "f" * 5000], ids=["decimal", "hexadecimal"])
def test_a_file_with_a_number_of_5000_digits_is_refused_in_words(
    tmp_path: Path, digits: str
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[gateway]\nowner = {digits}\n")
    with pytest.raises(ConfigError, match=r"digits|64 bits"):
        load(file)


def changed(where: tuple[str | int, ...], value: object) -> dict[str, object]:
    document = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    inner: Any = document
    for step in where[:-1]:
        inner = inner.setdefault(step, {}) if isinstance(inner, dict) else inner[step]
    inner[where[-1]] = value
    return document
