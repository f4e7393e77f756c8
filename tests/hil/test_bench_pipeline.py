"""The pipeline bench: what it plays arrives, and its arithmetic is right. No figure is judged."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from agent.spool import Spool
from drivers.base import Alive, Reading
from hil.__main__ import main
from hil.bench import BENCHES, pipeline
from hil.bench.pipeline import FIGURES, SITE, Source, growth, measure, merged, play, source
from hil.ledger import waiting

PLAYED_S = 90.0


@pytest.fixture(scope="module")
def sources() -> dict[str, Source]:
    return {name: source(name, PLAYED_S, seed=seed) for seed, name in enumerate(SITE)}


def test_every_observation_that_is_played_is_in_a_record(
    sources: dict[str, Source], tmp_path: Path
) -> None:
    came = play(sources, 2, tmp_path / "spool.db")
    spool = Spool(tmp_path / "spool.db", max_bytes=2**29, run="after", boot_id="")
    records = [json.loads(body) for _, body in waiting(spool)]
    spool.close(clean=True)
    expected = Counter(
        (f"{name}-{at}", observation.quantity)
        for name, each in sources.items()
        for at in range(2)
        for _, collected in each.polls
        for observation in collected.observations
        if isinstance(observation, Reading) and observation.value is not None
    )
    samples: Counter[tuple[str, str]] = Counter()
    alive_s: Counter[str] = Counter()
    for record in records:
        if record["stream"] == "alerts":
            continue
        if "epsilon" in record["values"]:
            alive_s[record["stream"]] += record["quality"]["n"]
            continue
        for name, value in record["values"].items():
            key = record["stream"], name
            if key in expected and value is not None:
                samples[key] += value["n"] + sum(value.get("rejected", {}).values())
    assert +samples == expected
    assert set(alive_s) == {"hall-0", "hall-1", "door-0", "door-1"}
    assert all(PLAYED_S - 3 <= each <= PLAYED_S for each in alive_s.values())
    assert came.records == len(records)
    assert came.polls == 2 * sum(len(each.polls) for each in sources.values())


def test_the_load_is_that_of_the_devices(sources: dict[str, Source]) -> None:
    for name, each in sources.items():
        counts: Counter[str] = Counter()
        for _, collected in each.polls:
            for observation in collected.observations:
                match observation:
                    case Reading(quantity=quantity):
                        counts[quantity] += 1
                    case Alive():
                        counts["alive"] += 1
        nominal = each.driver.rate_hz * PLAYED_S
        assert 0.9 * nominal <= counts.most_common()[0][1] <= 1.2 * nominal, name


def test_sets_come_in_order_of_time_and_are_alike(sources: dict[str, Source]) -> None:
    polls = merged(sources, 3)
    times = [came_ns for came_ns, _ in polls]
    assert times == sorted(times)
    counts = Counter(collected.sensor_id[-1] for _, collected in polls)
    assert len(counts) == 3
    assert len(set(counts.values())) == 1


def test_growth_of_a_straight_line_has_its_slope_and_no_residual() -> None:
    found = growth({8: 0.5 + 8 * 0.25, 16: 0.5 + 16 * 0.25, 64: 0.5 + 64 * 0.25})
    assert found["cpu_percent_per_sensor"] == pytest.approx(0.25)
    assert found["linear_residual_percent"] == pytest.approx(0.0, abs=1e-9)
    assert found["growth_ratio"] == pytest.approx((16.5 / 64) / (2.5 / 8))


def test_growth_with_the_square_shows() -> None:
    found = growth({size: 0.001 * size * size for size in (8, 16, 32, 64)})
    assert found["growth_ratio"] == pytest.approx(8.0)
    assert found["linear_residual_percent"] > 5


def test_a_tiny_run_gives_every_figure() -> None:
    values = measure(70.0, rounds=1)
    assert set(values) == {figure.key for figure in FIGURES}
    assert all(value > 0 for key, value in values.items() if key.startswith("cpu_percent_"))
    assert values["observations_per_s_8"] > values["polls_per_s_8"] > 1


def test_the_verb_prints_the_table_and_judges(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {figure.key: figure.target or 1.0 for figure in FIGURES}
    monkeypatch.setattr(pipeline, "measure", lambda *_, **__: values)
    assert main(["bench", "pipeline", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == values
    values["cpu_percent_8"] = 2.1
    assert main(["bench", "pipeline"]) == 1
    assert "MISS" in capsys.readouterr().out
    assert "pipeline" in BENCHES
