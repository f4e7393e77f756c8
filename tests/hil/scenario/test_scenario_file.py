"""What a scenario's author is told when the file is wrong: where, what, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import ConfigError
from hil.scenario.formula import compiled
from hil.scenario.load import load, names, path_of
from hil.scenario.series import UnavailableError
from hil.scenario.spans import said, seconds, size_bytes
from hil.scenario.timeline import episodes
from hil.scenario.verbs import VERBS

from .texts import GATE, LINE, SURFACE, fault, loaded, text

ACCURACY = '[[expect.accuracy]]\nsensor = "snow-1"\nquantity = "depth_cm"\n'


def told(folder: Path, *parts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, *parts)
    return str(caught.value)


def test_a_whole_scenario_loads_as_it_is_written(tmp_path: Path) -> None:
    found = loaded(tmp_path, LINE, fault("serial_garble", "2m", "3m", target="snow-1", share=0.1))
    assert found.scenario.lasts == 1200.0
    assert [each.verb for each in found.faults] == ["serial_garble"]
    assert found.truths()["snow-1"]["depth_cm"](1800.0) == pytest.approx(33.0)


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        (LINE + "\nlast = 3\n", 'truth.snow-1.last: a lufft-umb cannot be made to measure "last"'),
        ("[expects]\n" + LINE, 'expects: unknown key "expects"; did you mean "expect"?'),
        (LINE.replace("depth_cm", "dept_cm"), 'did you mean "depth_cm"?'),
        (LINE.replace("lufft-umb", "lufft-ubm"), "config.sensors[0].driver"),
        (LINE + "[expect]\nspeed_min = -1\n", "expect.speed_min: must be more than 0"),
        (
            LINE + ACCURACY.replace("snow-1", "snow-2") + "rms_max = 0.1\n",
            'expect.accuracy[0].sensor: no sensor "snow-2" in config; did you mean "snow-1"?',
        ),
        (
            LINE + "[crowd.snow-1]\npersons_per_minute = 3\n",
            "crowd.snow-1: lufft-umb counts nobody",
        ),
        (
            LINE + '[config.uplink]\nbrokers = ["mqtt://a.example"]\n',
            "config.uplink.brokers: the stage brings its own broker",
        ),
        (
            LINE.replace("{ keyframes", "{ constant = 3.0, keyframes"),
            "truth.snow-1.depth_cm: must say in one way what happens",
        ),
        (
            LINE.replace('["1h", 36.0]', '["0h", 36.0], ["-1h", 2.0]'),
            "truth.snow-1.depth_cm: must be a length of time",
        ),
        (LINE + ACCURACY, "expect.accuracy[0]: judges nothing so"),
        (LINE + ACCURACY + "agreement_min = 0.9\n", "expect.accuracy[0]: judges nothing so"),
        (LINE + ACCURACY + 'statistic = "mode"\nrms_max = 0.1\n', "expect.accuracy[0]: judges"),
        ("[config]\ngateway = 5\n" + LINE, "config.gateway: must be a table, not 5"),
        (LINE.replace("30.0", '"high"'), 'truth.snow-1.depth_cm: "high" is no number'),
        (
            LINE.replace("{ keyframes", '{ formula = "1 / (t_h - 0.25)" } # { keyframes'),
            "truth.snow-1.depth_cm: float division by zero, at 15 min: it must give a value",
        ),
        (GATE.replace('open = "no"', 'open = "ajar"'), 'truth.gate.open: no class "ajar"'),
        ("", "config.sensors"),
    ],
)
def test_each_mistake_is_named_with_its_place(tmp_path: Path, part: str, complaint: str) -> None:
    assert complaint in told(tmp_path, part)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (fault("serial_garbel", "1m"), 'faults[0].verb: no verb "serial_garbel"; did you mean'),
        (fault("serial_garble", "1m", target="snow-1"), "faults[0].share: is missing"),
        (
            fault("serial_garble", "1m", target="snow-1", shares=0.1),
            'faults[0].shares: unknown key "shares"; did you mean "share"?',
        ),
        (fault("serial_garble", "1m", share=0.1), "faults[0].target: the verb serial_garble needs"),
        (
            fault("serial_garble", "1m", share=0.1, target="snow-2"),
            'faults[0].target: no sensor "snow-2" in config; did you mean "snow-1"?',
        ),
        (
            fault("serial_garble", "1m", share=0.1, target="surface-1"),
            "faults[0].target: serial_garble acts on serial, and surface-1 is on i2c",
        ),
        (fault("network_cut", "1m", target="snow-1"), "faults[0].target: the verb network_cut has"),
        ('[[faults]]\nverb = "network_cut"\n', "faults[0]: needs `at`"),
        (
            fault("network_cut", "1m", "2h", every="1h"),
            "faults[0]: `for` must be given, and shorter than `every`",
        ),
        (fault("network_cut", "1m", every="1h"), "faults[0]: `for` must be given, and shorter"),
        (
            '[faults]\nverb = "network_cut"\nat = "1m"\n',
            "faults: must be a list: each fault has a [[faults]] of its own",
        ),
        (fault("network_cut", "20m"), "faults[0].at: begins at 20 min, and the scenario lasts"),
        (fault("clock_step", "1m", by_s=1e300), "faults[0].by_s: must be at most"),
        (
            fault("cpu_contention", "1m", "2m", processes=4),
            "faults[0].verb: cpu_contention cannot act in this process: it needs a machine of its"
            " own; run with --on vpi",
        ),
    ],
)
def test_each_wrong_fault_is_named_with_its_place(
    tmp_path: Path, wrong: str, complaint: str
) -> None:
    assert complaint in told(tmp_path, LINE, SURFACE, wrong)


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_a_start_that_no_clock_shows_is_refused(tmp_path: Path, year: str) -> None:
    path = tmp_path / "far.toml"
    path.write_text(text(LINE).replace("2027-01-15", f"{year}-12-31"), encoding="utf-8")
    with pytest.raises(ConfigError, match="start: must be between 1970 and 2200"):
        load(path)


@pytest.mark.parametrize("rows", ["", "600,20\n0,10\n", "0,\n", "0\n"])
def test_a_column_without_a_course_is_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "depth.csv").write_text("t_s,depth_cm\n" + rows)
    part = LINE.replace('{ keyframes = [["0h", 30.0], ["1h", 36.0]] }', '{ csv = "depth.csv" }')
    assert "truth.snow-1.depth_cm: depth.csv: " in told(tmp_path, part)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    said_of_it = told(tmp_path, LINE, fault("network_cutt", "1m"), fault("broker_kil", "1m"))
    assert "faults[0]" in said_of_it
    assert "faults[1]" in said_of_it


def test_a_file_that_is_not_there_names_the_nearest_scenario() -> None:
    with pytest.raises(ConfigError, match='did you mean "storm-day"'):
        load(path_of("storm-dya"))


def test_a_recording_that_is_not_here_says_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("YUKIMI_RECORDINGS", raising=False)
    part = LINE.replace(
        '{ keyframes = [["0h", 30.0], ["1h", 36.0]] }', '{ recording = "San Juan" }'
    )
    with pytest.raises(UnavailableError, match="YUKIMI_RECORDINGS"):
        loaded(tmp_path, part)


def test_a_column_of_a_file_moves_a_sensor(tmp_path: Path) -> None:
    (tmp_path / "depth.csv").write_text("t_s,depth_cm\n0,10\n600,20\n1200,\n1800,40\n")
    part = LINE.replace('{ keyframes = [["0h", 30.0], ["1h", 36.0]] }', '{ csv = "depth.csv" }')
    truth = loaded(tmp_path, part).truths()["snow-1"]["depth_cm"]
    assert [truth(at_s) for at_s in (0.0, 300.0, 1200.0, 9e9)] == [10.0, 15.0, 30.0, 40.0]


def test_a_generated_winter_is_the_seeds(tmp_path: Path) -> None:
    part = LINE.replace('{ keyframes = [["0h", 30.0], ["1h", 36.0]] }', '{ generated = "storm" }')
    path = tmp_path / "storm.toml"
    path.write_text(text(part, lasts="48h"), encoding="utf-8")
    depths = [
        [load(path, seed=seed).truths()["snow-1"]["depth_cm"](3600.0 * hour) for hour in range(48)]
        for seed in (1, 1, 2)
    ]
    assert depths[0] == depths[1] != depths[2]
    assert max(depths[0]) > depths[0][0]  # it snowed


def test_what_comes_again_is_drawn_from_the_seed(tmp_path: Path) -> None:
    found = loaded(
        tmp_path, LINE, fault("network_cut", "1m", "2m", every="5m", jitter="90s"), lasts="30m"
    )
    begins = [
        [each.begin_s for each in episodes(found.faults, seed=seed, lasts_s=1800.0)]
        for seed in (1, 1, 2)
    ]
    assert begins[0] == begins[1] != begins[2]
    assert len(begins[0]) == 6
    assert all(0.0 <= at_s - (60.0 + 300.0 * n) <= 90.0 for n, at_s in enumerate(begins[0]))


@pytest.mark.parametrize(
    "formula", ["import os", "hours", "().__class__", "sin(", "open('x')", "9**9**9**9"]
)
def test_a_formula_is_arithmetic_and_nothing_else(formula: str) -> None:
    with pytest.raises(ValueError, match="is no formula"):
        compiled(formula)


def test_spans_and_sizes_are_read_as_people_write_them() -> None:
    assert [seconds(each) for each in ("90s", "1h 30m", "2d", 7)] == [90.0, 5400.0, 172800.0, 7.0]
    assert [said(each) for each in (90, 5400, 93600)] == ["90 s", "1 h 30 min", "1 d 2 h"]
    assert size_bytes("64KiB") == 65536
    for wrong in ("", "6 parsecs", -1, True, 1e18, "99999999999d"):
        with pytest.raises(ValueError, match="length of time"):
            seconds(wrong)


def test_every_verb_says_what_it_does_in_one_sentence() -> None:
    for name, verb in VERBS.items():
        assert (verb.__doc__ or "").strip(), name


def test_the_bench_brings_its_scenarios() -> None:
    assert {"storm-day", "hostile-line", "soak-month"} <= set(names())
