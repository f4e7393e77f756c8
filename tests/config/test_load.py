"""One document from several files, and every reason why not, in a technician's words."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from config.load import ConfigError, Loaded, Problem, default_path, load, nearest, toml_path
from config.model import Config, SizeBytes

MINIMAL = """
[uplink]
brokers = ["mqtt://broker.example"]
[[sensors]]
id = "snow-1"
driver = "maxbotix-hrxl"
bus = "/dev/ttyS1"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gateway.d").mkdir()
    return tmp_path


def loaded(folder: Path, text: str, **parts: str) -> Loaded:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    for name, part in parts.items():
        (folder / "gateway.d" / f"{name}.toml").write_text(part, encoding="utf-8")
    return load(path)


def problems(folder: Path, text: str, **parts: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **parts)
    return caught.value.problems


def test_the_least_configuration_is_a_broker_and_a_sensor(folder: Path) -> None:
    config = loaded(folder, MINIMAL).config
    assert config.uplink.protocol == "5"
    assert config.privacy.flow.epsilon == "1/4"
    assert config.spool.max_bytes == 512 * 2**20
    assert config.sensors[0].on_error == "retry"


def test_every_default_is_the_contracts(folder: Path) -> None:
    config = loaded(folder, MINIMAL).config
    uplink = config.uplink
    assert (uplink.topic_root, uplink.confirm, uplink.require_subscriber) == (
        "yukimi/v1",
        "broker",
        True,
    )
    assert (uplink.inflight, uplink.batch_records, uplink.compression) == (16, 200, "backlog")
    assert (uplink.backlog_bytes_per_s, uplink.receipt_timeout_s) == (16384, 600)
    assert (uplink.drain_s, uplink.offset_s) == (5, None)
    assert (config.clock.trust, config.clock.wait_s) == ("kernel", 600)
    assert config.control.socket == "/run/yukimi/control.sock"
    assert config.spool.path == "/var/lib/yukimi/spool.db"
    assert config.privacy.flow.window_s == 900
    assert config.commands.allow == []


# Where a configuration is


def test_nobody_says_where_so_it_is_in_etc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YUKIMI_CONFIG", raising=False)
    assert default_path() == Path("/etc/yukimi/gateway.toml")
    monkeypatch.setenv("YUKIMI_CONFIG", "/srv/other.toml")
    assert default_path() == Path("/srv/other.toml")


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.toml: no such file; name one with --config"):
        load(folder / "gateway.toml")


def test_a_folder_in_its_place_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.d: cannot be read: Is a directory"):
        load(folder / "gateway.d")


def test_what_is_no_text_is_told_by_its_byte(folder: Path) -> None:
    (folder / "gateway.toml").write_bytes(b"[gateway]\nowner = '\xff'")
    with pytest.raises(ConfigError, match="is not UTF-8 text: byte 19"):
        load(folder / "gateway.toml")


def test_what_is_no_toml_is_told_by_its_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not valid TOML: .*line 2"):
        loaded(folder, "[gateway]\nid = oops\n")


def test_two_broken_files_are_told_together(folder: Path) -> None:
    found = problems(folder, "x =", second="y =")
    assert [Path(problem.file).name for problem in found] == ["gateway.toml", "second.toml"]


# Several files


def test_a_folder_of_parts_that_cannot_be_read_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Path) -> Iterator[Path]:  # as root, no mode would
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    (problem,) = problems(folder, MINIMAL)
    assert problem.file == str(folder / "gateway.d")
    assert problem.what == "cannot be read: Permission denied"


def test_a_file_in_the_place_of_that_folder_is_told(folder: Path) -> None:
    (folder / "gateway.d").rmdir()
    (folder / "gateway.d").touch()
    (problem,) = problems(folder, MINIMAL)
    assert (problem.file, problem.what) == (str(folder / "gateway.d"), "is no folder; move it away")


def test_a_part_that_leads_nowhere_is_told(folder: Path) -> None:
    (folder / "gateway.d" / "gone.toml").symlink_to(folder / "nowhere")
    (problem,) = problems(folder, MINIMAL)
    assert problem.file.endswith("gone.toml")


def test_toml_that_is_too_deep_to_be_read_is_refused(folder: Path) -> None:
    (problem,) = problems(folder, f"{MINIMAL}\nx = {'[' * 10_000}")
    assert "too deep" in problem.what


@pytest.mark.parametrize("path", ["", ".", "/var/lib/yukimi/", "a\\u0000b"])
def test_a_spool_that_is_no_file_is_refused(folder: Path, path: str) -> None:
    (problem,) = problems(folder, f'{MINIMAL}\n[spool]\npath = "{path}"')
    assert problem.path == "spool.path"
    assert "must name a file" in problem.what


def test_a_secrets_name_that_no_file_can_have_is_refused(folder: Path) -> None:
    (problem,) = problems(folder, with_password(folder, "a\\u0000b"))
    assert "is no name of a file" in problem.what


def test_files_beside_it_are_merged_in_name_order(folder: Path) -> None:
    second = '[[sensors]]\nid = "{}"\ndriver = "maxbotix-hrxl"\nbus = "/dev/ttyS2"\n'
    config = loaded(folder, MINIMAL, b=second.format("snow-3"), a=second.format("snow-2")).config
    assert [sensor.id for sensor in config.sensors] == ["snow-1", "snow-2", "snow-3"]


def test_a_table_of_its_own_may_be_in_another_file(folder: Path) -> None:
    config = loaded(
        folder, MINIMAL, site='[gateway]\nid = "chikaho-03"\n[gateway.label]\nen = "N3"\n'
    ).config
    assert config.gateway.id == "chikaho-03"
    assert config.gateway.label is not None
    assert config.gateway.label.en == "N3"


def test_a_sub_table_may_be_in_another_file_than_its_table(folder: Path) -> None:
    (folder / "ca.pem").touch()
    config = loaded(folder, MINIMAL, tls='[uplink.tls]\nca_file = "ca.pem"\n').config
    assert config.uplink.tls.ca_file == "ca.pem"


def test_one_table_in_two_files_is_refused_and_both_are_named(folder: Path) -> None:
    (problem,) = problems(folder, MINIMAL, again="[uplink]\ninflight = 4\n")
    assert problem.file.endswith("again.toml")
    assert problem.path == "uplink.inflight"
    assert re.search(r"already in .*gateway\.toml; each table is written in one file", problem.what)


def test_a_table_where_another_file_has_a_value_is_refused(folder: Path) -> None:
    (problem,) = problems(
        folder, MINIMAL + "[gateway]\nlabel = 5\n", x='[gateway.label]\nen = "N3"\n'
    )
    assert problem.path == "gateway.label"


def test_a_problem_names_the_file_that_holds_it(folder: Path) -> None:
    (problem,) = problems(
        folder,
        MINIMAL,
        site='[[sensors]]\nid = "SNOW"\ndriver = "maxbotix-hrxl"\nbus = "/dev/ttyS2"\n',
    )
    assert problem.file.endswith("site.toml")
    assert str(problem).startswith(f"{problem.file}: sensors[1].id: ")


def test_one_id_twice_is_refused_across_files_too(folder: Path) -> None:
    (problem,) = problems(
        folder,
        MINIMAL,
        site='[[sensors]]\nid = "snow-1"\ndriver = "maxbotix-hrxl"\nbus = "/dev/ttyS2"\n',
    )
    assert problem.path == "sensors[1].id"
    assert re.search(r'"snow-1" is already the id of sensors\[0\] in .*gateway.toml', problem.what)


# Secrets and other files


@pytest.mark.parametrize(
    ("table", "line", "instead"),
    [
        ("[uplink]", 'password = "hunter2"', "password_file"),
        ("[uplink.tls]", 'key = "-----BEGIN"', "key_file"),
    ],
)
def test_a_secret_in_the_file_is_refused_and_not_repeated(
    folder: Path, table: str, line: str, instead: str
) -> None:
    text = MINIMAL.replace("[uplink]", "[uplink]\n@") if table == "[uplink]" else MINIMAL
    text = text.replace("@", line) if "@" in text else f"{text}{table}\n{line}\n"
    (problem,) = problems(folder, text)
    assert "secrets are never in the file" in problem.what
    assert instead in problem.what
    assert "hunter2" not in str(problem)
    assert "BEGIN" not in str(problem)


def with_password(folder: Path, name: str) -> str:
    return MINIMAL.replace("[uplink]", f'[uplink]\nusername = "u"\npassword_file = "{name}"')


def test_a_secrets_file_is_looked_for_beside_the_configuration(folder: Path) -> None:
    (folder / "secret").touch()
    found = loaded(folder, with_password(folder, "secret"))
    assert found.file("secret") == folder / "secret"


def test_systemds_credentials_come_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "secret").touch()
    (folder / "gateway.d" / "secret").touch()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder / "gateway.d"))
    found = loaded(folder, with_password(folder, "secret"))
    assert found.file("secret") == folder / "gateway.d" / "secret"
    assert found.file("other") == folder / "other"


def test_an_absolute_name_stands(folder: Path) -> None:
    assert loaded(folder, MINIMAL).file("/etc/ssl/ca.pem") == Path("/etc/ssl/ca.pem")


def test_a_secrets_file_that_is_missing_is_named_in_full(folder: Path) -> None:
    (problem,) = problems(folder, with_password(folder, "secret"))
    assert problem.path == "uplink.password_file"
    assert str(folder / "secret") in problem.what
    assert "No such file" in problem.what


# Texts and numbers


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 2**20),
        ("1.5 GiB", 3 * 2**29),
        ("16MB", 16_000_000),
        ("20000kB", 20_000_000),
        ("9000000B", 9_000_000),
    ],
)
def test_sizes_are_written_as_people_do(text: str, size: int) -> None:
    assert TypeAdapter(SizeBytes).validate_python(text) == size


@pytest.mark.parametrize("text", ["512", "512 Mib", "lots", "-5MiB", "1e9B", ""])
def test_a_size_in_other_words_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="512MiB"):
        TypeAdapter(SizeBytes).validate_python(text)


@given(st.integers(8, 10**6), st.sampled_from(["MiB", "MB", "GiB", "GB"]))
def test_a_size_means_the_same_with_and_without_a_space(number: int, unit: str) -> None:
    size = TypeAdapter(SizeBytes)
    if number >= 9:
        assert size.validate_python(f"{number}{unit}") == size.validate_python(f" {number} {unit} ")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("chikaho-03", "chikaho-03"),
        ("Chikaho_03.city.example", "chikaho-03-city-example"),
        ("---", "gateway"),
        ("x" * 80, "x" * 64),
    ],
)
def test_the_default_id_is_the_host_name_made_fit(
    monkeypatch: pytest.MonkeyPatch, host: str, expected: str
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    config = Config.model_validate(
        {
            "uplink": {"brokers": ["mqtt://b"]},
            "sensors": [{"id": "s", "driver": "d", "bus": "gpio"}],
        }
    )
    assert config.gateway.id == expected


def test_a_path_is_written_as_in_toml() -> None:
    assert toml_path(("sensors", 2, "options", "pin_a")) == "sensors[2].options.pin_a"
    assert toml_path(()) == ""


def test_the_nearest_name_is_offered_and_else_all_are() -> None:
    assert nearest("brokrs", ["brokers", "username"]) == '; did you mean "brokers"?'
    assert nearest("zzz", ["b", "a"]) == "; known: a, b"
    assert nearest("zzz", []) == ""


# What a configuration is called


def test_the_configurations_id_is_of_its_content(folder: Path) -> None:
    one = loaded(folder, MINIMAL)
    assert re.fullmatch("[0-9a-f]{12}", one.config_id)
    assert loaded(folder, MINIMAL).config_id == one.config_id
    assert loaded(folder, MINIMAL.replace("snow-1", "snow-2")).config_id != one.config_id


def test_layout_comments_and_the_division_into_files_do_not_change_it(folder: Path) -> None:
    other = MINIMAL.replace('id = "snow-1"\n', "").replace(
        'bus = "/dev/ttyS1"', "bus='/dev/ttyS1' # the left one\nid = 'snow-1'"
    )
    site = '[gateway]\nid = "g"\n'
    together = loaded(folder, MINIMAL + site).config_id
    assert loaded(folder, other, site=site).config_id == together


def test_where_secrets_are_does_not_change_it(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).touch()
    ids = {loaded(folder, with_password(folder, name)).config_id for name in ("one", "two")}
    assert len(ids) == 1


def test_dates_in_a_configuration_do_not_stop_it_from_having_an_id(folder: Path) -> None:
    text = MINIMAL + "[sensors.options]\ninstalled = 2026-11-22\n"
    assert loaded(folder, text).config_id


def test_a_credential_names_the_gateway_before_its_host_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_id = MINIMAL
    monkeypatch.setattr(socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert loaded(folder, without_id).config.gateway.id == "raspberrypi"
    (folder / "gateway-id").write_text("Chikaho 03\n")
    assert loaded(folder, without_id).config.gateway.id == "chikaho-03"
