"""The page: complete in itself, readable by everybody, and only text where text came in."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from string import Formatter
from typing import Any

import pytest

from agent.record import utc_ns
from agent.redaction import REMOVED, Secrets
from agent.report import names, page, plots, words
from agent.report.facts import Facts, SensorFacts
from agent.report.gather import scrubbed
from agent.report.style import CSS, SHAPES, TEXTS, contrast
from config.text import Language, Text
from tests.agent.report.reading import Reader
from tests.agent.report.winter import ago, day, facts, means, now, windows

LANGUAGES: tuple[Language, ...] = ("ja", "en")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&</style></title><!--\x00"


def dead(whole: Facts) -> Facts:
    """The same gateway when it does not answer."""
    return replace(
        whole,
        running=None,
        why_silent=Text("no gateway answers", "応答がありません"),
        sensors=[replace(each, now=None, history=None) for each in whole.sensors],
        outages=(),
        edges=(),
        remembers_since=None,
        checks=None,
    )


def bare() -> Facts:
    """What is known where there is nothing at all."""
    return Facts(made_s=facts().made_s, gateway="?")


def crowded() -> Facts:
    """As many sensors and quantities as one can configure, and long lists."""
    line = means(lambda slot: 1000.123 + slot)
    many = [
        SensorFacts(
            *(f"sensor-{at}", "weather", "modbus-rtu", "/dev/ttyUSB0", 60),
            now=now(f"sensor-{at}", "weather", record=None),
            history=day(**{f"value_{n}_c": line for n in range(8)}),
        )
        for at in range(64)
    ]
    whole = facts()
    return replace(
        whole,
        sensors=many,
        edges=list(whole.edges) * 50,
        outages=list(whole.outages) * 33,
        configuration={f"key_{at}": "x" * 100 for at in range(10_000)},
        checks=list(whole.checks or ()) * 100,
    )


SITUATIONS: Mapping[str, Callable[[], Facts]] = {
    "a winter's day": facts,
    "a dead gateway": lambda: dead(facts()),
    "nothing at all": bare,
    "a crowd of sensors": crowded,
}


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> Language:
    found: Language = request.param
    return found


@pytest.fixture(params=SITUATIONS)
def text(request: pytest.FixtureRequest, language: Language) -> str:
    return page.page(SITUATIONS[request.param](), language)


# What it needs


def references(html: str) -> list[str]:
    """Everything in a page by which a browser could load, run or send something."""
    reader = Reader(html)
    found = [
        f"{element.name} {name}={value}"
        for element in reader.elements
        for name, value in element.attributes.items()
        if (
            (name in ("src", "href", "srcset", "data", "action", "poster", "style", "xlink:href"))
            and not value.startswith("#")
        )
        or name.startswith("on")
    ]
    loading = ("script", "link", "iframe", "object", "embed", "base", "form", "img", "use", "image")
    found += [element.name for element in reader.all(*loading)]
    styles = "".join(element.text for element in reader.all("style"))
    found += re.findall(r"url\(|@import|expression\(|src:", styles)
    found += [
        str(element.attributes)
        for element in reader.all("meta")
        if element.attributes.get("http-equiv", "").lower() == "refresh"
    ]
    return found


def test_it_needs_nothing_from_anywhere(text: str) -> None:
    assert references(text) == []
    policy = [
        element.attributes["content"]
        for element in Reader(text).all("meta")
        if element.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


@pytest.mark.parametrize(
    "foreign",
    [
        '<img src="https://example.com/x.png">',
        '<link rel="stylesheet" href="x.css"></link>',
        "<script>1</script>",
        "<style>body{background:url(x.png)}</style>",
        '<p onclick="x()"></p>',
        '<p style="background:red"></p>',
    ],
)
def test_a_reference_would_be_found(foreign: str) -> None:
    """The negative control of the one above."""
    html = page.page(facts(), "en").replace("</footer>", f"</footer>{foreign}")
    assert references(html) != []


def test_it_is_small_whatever_is_configured(text: str) -> None:
    assert len(text.encode()) < 1_000_000


def test_what_found_no_room_is_named() -> None:
    html = page.page(crowded(), "en")
    assert "Not drawn, to keep this file small" in html
    assert 100 < html.count("<svg") < 512


# Who reads it


def test_headings_are_in_order(text: str) -> None:
    levels = [int(element.name[1]) for element in Reader(text).all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_plot_is_told_in_words(text: str) -> None:
    reader = Reader(text)
    ids = [e.attributes["id"] for e in reader.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for svg in reader.all("svg"):
        assert svg.attributes["role"] == "img"
        title, desc = svg.children[:2]
        assert (title.name, desc.name) == ("title", "desc")
        assert title.attributes["id"] == svg.attributes["aria-labelledby"]
        assert desc.attributes["id"] == svg.attributes["aria-describedby"]
        assert title.text
        assert desc.text


def test_links_lead_somewhere(text: str) -> None:
    reader = Reader(text)
    ids = {element.attributes.get("id") for element in reader.elements}
    links = [element.attributes["href"] for element in reader.all("a")]
    assert links
    assert all(link.removeprefix("#") in ids for link in links)


def test_its_language_is_told(text: str, language: Language) -> None:
    (html,) = Reader(text).all("html")
    assert html.attributes["lang"] == language


def test_tables_have_heads_and_captions(text: str) -> None:
    for table in Reader(text).all("table"):
        assert table.children[0].name == "caption"
        assert all(cell.attributes["scope"] == "col" for cell in table.children[1].children)


@pytest.mark.parametrize("pair", TEXTS)
def test_text_has_the_contrast_of_wcag_aa(pair: str) -> None:
    assert contrast(*TEXTS[pair]) >= 4.5


@pytest.mark.parametrize("pair", SHAPES)
def test_shapes_have_the_contrast_of_wcag_aa(pair: str) -> None:
    assert contrast(*SHAPES[pair]) >= 3


def test_contrast_is_computed_as_wcag_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert contrast("#777777", "#ffffff") < 4.5


def test_no_colour_is_used_that_was_not_looked_at() -> None:
    looked_at = {colour for pair in (*TEXTS.values(), *SHAPES.values()) for colour in pair}
    silent = {"#d5dae0"}  # rules between rows and lines of the scale: they tell nothing
    assert set(re.findall(r"#[0-9a-f]{6}", CSS)) <= looked_at | silent


@pytest.mark.parametrize("module", [words, names, plots])
def test_every_text_has_the_same_fields_in_both_languages(module: Any) -> None:
    found = list(_texts(vars(module)))
    assert found
    for each in found:
        assert _fields(each.en) == _fields(each.ja), each
        assert each.ja


def _texts(value: Any) -> Any:
    if isinstance(value, Text):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


# What it says


def test_what_needs_attention_comes_first() -> None:
    reader = Reader(page.page(facts(), "en"))
    verdict = next(e for e in reader.all("div") if "verdict" in e.attributes.get("class", ""))
    assert "bad" in verdict.attributes["class"]
    assert "nobody answers at i2c-1 0x76" in verdict.whole_text
    assert "10.2 cm of snow" in verdict.whole_text
    # A silent sensor for which there is an alert is told once.
    assert verdict.whole_text.count("Air by the cabinet") == 1


def test_of_failed_checks_the_first_is_the_cause_and_the_others_stand_below() -> None:
    checks = [
        {
            "id": f"YK-{n}",
            "status": "FAIL",
            "subject": None,
            "title": f"check {n}",
            "evidence": "no",
        }
        for n in range(5)
    ]
    reader = Reader(page.page(replace(facts(), checks=checks), "en"))
    verdict = next(e for e in reader.all("div") if "verdict" in e.attributes.get("class", ""))
    assert "check 0: no" in verdict.whole_text
    assert "check 1" not in verdict.whole_text
    assert "4 more checks failed" in verdict.whole_text
    (listed,) = [e for e in reader.all("ul") if e.attributes.get("class") == "checks"]
    assert all(f"YK-{n}" in listed.whole_text for n in range(5))


def test_a_gateway_without_trouble_says_so() -> None:
    whole = facts()
    running = {**(whole.running or {}), "alerts": []}
    calm = replace(whole, running=running, sensors=whole.sensors[:3], checks=[])
    assert "Nothing needs attention." in page.page(calm, "en")
    assert "異常はありません" in page.page(calm, "ja")


def test_a_gateway_that_does_not_answer_is_said_to_be_so() -> None:
    html = page.page(dead(facts()), "ja")
    assert "応答がありません" in html
    assert "<svg" not in html
    assert "発生中の警報はありません" not in html  # nobody knows
    assert "mqtts://broker-a.example" in html  # its configuration is known all the same


def test_times_are_those_of_the_place() -> None:
    html = page.page(facts(), "en")
    assert "2027-01-15 17:30 (Asia/Tokyo)" in html


# Of people


def people(history: Mapping[str, Any], **more: Any) -> Facts:
    hall = facts().sensors[0]
    return replace(facts(), sensors=[replace(hall, history=history, now={**hall.now, **more})])  # type: ignore[dict-item]


def test_of_people_nothing_but_released_figures_is_shown() -> None:
    """Whatever else should stand beside them one day."""
    canary = 918273645
    raw = {"readings": {"crossings": {"value": canary}}, "failed_polls": canary, "rate_hz": canary}
    history = facts().sensors[0].history or {}
    html = page.page(people({**history, "crossings_s": [canary]}, **raw), "en")
    assert str(canary) not in html
    assert "epsilon 1/4 a crossing" in html


def test_figures_below_zero_are_drawn_as_zero_and_summed_as_they_are() -> None:
    each = {"start": ago(1), "end": ago(0.75), "towards": -30, "away": 20}
    html = page.page(people({"windows": [each]}), "en")
    assert "Odori: at most 0 in a window" in html
    assert re.search(r"Odori -30 ±11", html)


def test_it_never_says_anonymous() -> None:
    for language in LANGUAGES:
        html = page.page(facts(), language)
        assert not re.search("anonym|匿名", html, re.IGNORECASE)


# What comes from outside


def spoilt(value: Any, *, key: str = "") -> Any:
    """The same facts with hostile text for every text in them, times and names of fields aside."""
    if isinstance(value, str):
        try:
            utc_ns(value)
        except ValueError:
            return HOSTILE
        return value
    if is_dataclass(value) and not isinstance(value, type):
        kept = ("zone", "made_s")
        if isinstance(value, SensorFacts):
            kept = ("kind",)
        changes = {
            each.name: spoilt(getattr(value, each.name))
            for each in fields(value)
            if each.name not in kept
        }
        return replace(value, **changes)
    if isinstance(value, Mapping):
        return {
            (key if key in KEYS else f"{HOSTILE}{key}"): spoilt(each) for key, each in value.items()
        }
    return [spoilt(each) for each in value] if isinstance(value, list | tuple) else value


# What the program itself names, everywhere in its documents.
KEYS = frozenset(
    """ja en towards away total slot_s start end means windows id kind state since error record text
    quality flag n expected values count unclamped epsilon noise_sd ci95 mean mode share gateway
    uplink clock alerts resources broker connected_since error_s severity sensor alert time
    rss_bytes cpu_s fds threads run version config policy uptime_s refused status title evidence
    next subject path bytes max_bytes waiting held lost oldest latitude longitude""".split()  # noqa: SIM905
)


def test_what_comes_from_outside_is_text_and_nothing_else(language: Language) -> None:
    html = page.page(spoilt(facts()), language)
    assert references(html) == []
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)") > 40
    assert "\x00" not in html


def test_an_escape_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of the one above."""
    monkeypatch.setattr("agent.report.html.escape", lambda text: text)
    with pytest.raises(AssertionError):
        assert references(page.page(spoilt(facts()), "en")) == []


def test_what_is_secret_is_nowhere_in_it() -> None:
    secrets = Secrets()
    secrets.add("hunter2-<&>", "uplink.password_file")
    whole = facts()
    running = {**(whole.running or {})}
    running["uplink"] = {"broker": None, "failure": {"reason": "refused gw:hunter2-<&>"}}
    leaky = replace(
        whole,
        running=running,
        configuration={"a": ["hunter2-<&>"], "b": "mqtt://gw:hunter2-<&>@broker.example"},
        problems=[Text("wrong: hunter2-<&>", "誤り: hunter2-<&>")],
        spool_trouble="cannot read hunter2-<&>",
        checks=[{"id": "x", "status": "FAIL", "evidence": "hunter2-<&>", "title": None}],
    )
    html = page.page(scrubbed(leaky, secrets), "ja")
    secrets.check("report.html", html.encode())
    assert html.count(REMOVED) >= 6
    assert "hunter2" in page.page(leaky, "ja")  # the negative control


def test_half_a_day_after_a_start_the_other_half_is_a_gap() -> None:
    slots = means(float)
    slots[:144] = [None] * 144
    sensor = replace(facts().sensors[1], history=day(depth_cm=slots))
    html = page.page(replace(facts(), sensors=[sensor]), "en")
    assert "Gaps: 1, 12.0 hours in all" in html


def test_a_day_of_windows_has_its_gap() -> None:
    html = page.page(people(windows(random.Random(2), range(10, 14))), "en")
    assert "Gaps: 1, 1.0 hours in all" in html
