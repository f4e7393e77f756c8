"""What cannot be done is refused before an image is built."""

from __future__ import annotations

import argparse

import pytest

from hil.vpi.cli import add_arguments

WRONG_USAGE = 2


@pytest.mark.parametrize("count", ["-1", "0", "many"])
@pytest.mark.parametrize("verb", ["powercut", "field"])
def test_a_number_of_cuts_that_makes_no_sense_is_refused(
    verb: str, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit) as refused:
        parser.parse_args([verb, "--cuts", count])
    assert refused.value.code == WRONG_USAGE
    assert f"'{count}' is not a number of 1 or more" in capsys.readouterr().err


def test_all_few_and_a_number_are_numbers_of_cuts() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = [parser.parse_args(["field", "--cuts", text]).cuts for text in ("all", "few", "7")]
    assert asked == [None, 3, 7]
    assert parser.parse_args(["field"]).cuts is None
