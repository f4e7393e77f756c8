"""The field guide is one page in each language, and everything it names is there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from agent import blink
from agent.cli import VERBS, parser_for
from agent.cli.names import STATES
from agent.doctor.findings import Blink
from agent.doctor.order import BY_ID
from agent.doctor.pages import blinks
from config.text import Language

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES: dict[Language, str] = {
    "en": (DOCS / "field-guide.md").read_text(encoding="utf-8"),
    "ja": (DOCS / "field-guide.ja.md").read_text(encoding="utf-8"),
}
LANGUAGES = pytest.mark.parametrize("language", PAGES)

PRINTED = """
@page { size: A4; margin: 10mm }
body { font: 9pt/1.3 sans-serif; margin: 0 }
h1 { font-size: 14pt; margin: 0 0 2mm }
p, table, pre { margin: 0 0 1.6mm }
pre { background: #f3f3f3; padding: 1mm 2mm }
code { font-size: 8pt }
table { border-collapse: collapse }
td, th { border: .2mm solid #999; padding: .2mm 1.2mm; text-align: left }
"""


def spans(text: str) -> list[str]:
    """List what stands as code between the words."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def typed(text: str) -> list[str]:
    """List the command lines of the blocks, without their comments."""
    return [
        shlex.join(shlex.split(line, comments=True)) for line in re.findall(r"^\$ (.+)", text, re.M)
    ]


def commands(text: str) -> list[list[str]]:
    """List every `yukimi ...` of a page, as words after `yukimi`; bare verbs included."""
    found = [shlex.split(line.removeprefix("sudo ")) for line in (*typed(text), *spans(text))]
    own = [words[1:] for words in found if words[0] == "yukimi" and words[1:]]
    return own + [words for words in found if words[0] in VERBS]


def ids(text: str) -> list[str]:
    """List the checks that a text names; `YK-PWR-01`–`02` are two."""
    found: list[str] = []
    for family, first, last in re.findall(r"(YK-[A-Z]+)-(\d\d)(?:`–`(\d\d))?", text):
        found += [f"{family}-{at:02}" for at in range(int(first), int(last or first) + 1)]
    return found


def rows(text: str) -> list[list[str]]:
    """List the cells of the tables' rows."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and "---" not in line
    ]


@LANGUAGES
def test_every_command_line_is_valid(language: Language) -> None:
    found = commands(PAGES[language])
    assert {words[0] for words in found} >= {"doctor", "status", "read", "scan", "watch", "spool"}
    for words in found:
        if len(words) > 1:
            parser_for(words[0]).parse_args(words)  # would exit
        else:
            assert words[0] in VERBS


def test_a_command_line_that_is_not_valid_is_found() -> None:
    for line in ("yukimi read snow-1 --consentt", "yukimi snow", "yukimi spool exportt"):
        (words,) = commands(f"`{line}`")
        with pytest.raises(SystemExit):
            parser_for(words[0]).parse_args(words)


def test_both_pages_name_the_same_commands_keys_and_checks() -> None:
    assert typed(PAGES["en"]) == typed(PAGES["ja"])
    assert sorted(spans(PAGES["en"])) == sorted(spans(PAGES["ja"]))
    assert ids(PAGES["en"]) == ids(PAGES["ja"])


@LANGUAGES
def test_every_check_has_one_row_and_no_other_is_named(language: Language) -> None:
    text = PAGES[language]
    in_rows = [name for row in rows(text) for name in ids(row[0])]
    assert sorted(in_rows) == sorted(BY_ID)
    assert set(ids(text)) == set(BY_ID)


@LANGUAGES
def test_the_blinks_are_those_of_the_lamp_and_of_the_doctor(language: Language) -> None:
    counts, causes = rows(PAGES[language])[:2]
    told = {
        int(found[0]): cause
        for count, cause in zip(counts[1:], causes[1:], strict=True)
        if (found := re.match(r"\d", count))
    }
    codes = (blink.SENSOR, blink.NETWORK, blink.CLOCK, blink.DISK)
    assert tuple(told) == codes
    for code in codes:
        assert blinks(Blink(code), language) in told[code]


@LANGUAGES
def test_the_states_have_the_names_that_the_screen_gives_them(language: Language) -> None:
    for state in ("ok", "warmup", "silent", "ignored"):
        assert STATES[state].of(language) in PAGES[language]


@LANGUAGES
def test_every_link_and_picture_leads_somewhere(language: Language) -> None:
    links = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", PAGES[language])
    found = ["".join(link) for link in links]
    assert len(found) >= 7
    assert [link for link in found if not (DOCS / link).is_file()] == []


def sheets(text: str, folder: Path) -> int:
    """Return how many sheets of A4 a page takes."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        reason = "no chromium: apt install chromium fonts-noto-cjk"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    body = body.replace('src="pictures/', f'src="{(DOCS / "pictures").as_uri()}/')
    page, printed = folder / "guide.html", folder / "guide.pdf"
    page.write_text(f'<!doctype html><meta charset="utf-8"><style>{PRINTED}</style>{body}')
    subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"),
            *(f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={printed}"),
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return len(re.findall(rb"/Type\s*/Page\b", printed.read_bytes()))


@LANGUAGES
def test_it_prints_on_one_sheet_of_a4(language: Language, tmp_path: Path) -> None:
    text = PAGES[language]
    assert sheets(text, tmp_path) == 1
    assert sheets(f"{text}\n{text}", tmp_path) == 2
