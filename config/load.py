"""From TOML files to a `Config`, or to every reason why not, in a technician's words.

`gateway.toml` and, in name order, `gateway.d/*.toml` beside it become one document in which each
table is written in one file only. All problems are found at once; each names the file, the TOML
path, what is wrong and, for a misspelt name, the nearest valid one.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from .explain import Finding as Finding
from .explain import Where as Where
from .explain import explain as explain
from .explain import nearest as nearest
from .explain import shown_value
from .model import Config
from .places import default_path as default_path  # the tools ask here for both
from .text import Text, joined

SECRET_PATHS = frozenset(("password_file", "key_file"))

Toml = dict[str, Any]
Check = Callable[[Toml], Iterable[Finding]]
Further = Callable[["Loaded"], Iterable["Problem"]]


class Problem(NamedTuple):
    """One thing that a human must edit."""

    file: str
    path: str  # as in TOML: sensors[2].options.mount_height_cm
    what: str  # a Text where it is known in Japanese too

    def __str__(self) -> str:
        return self.text.en

    @property
    def text(self) -> Text:
        """Return it as one line for people."""
        return joined(": ", filter(None, (self.file, self.path, self.what)))


class ConfigError(Exception):
    """The configuration cannot be used. A human must edit it; all problems are listed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__(joined("\n", (problem.text for problem in self.problems)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration and where it came from."""

    config: Config
    document: Toml  # merged, as written
    path: Path
    origins: Mapping[Where, str] = field(repr=False)

    @property
    def files(self) -> list[str]:
        """The files that say anything, in the order in which they were merged."""
        return sorted({*self.origins.values()}, key=lambda file: (file != str(self.path), file))

    @property
    def config_id(self) -> str:
        """First 12 hex digits of the SHA-256 of the merged document, without paths of secrets."""
        text = json.dumps(
            _without_secrets(self.document), sort_keys=True, separators=(",", ":"), default=str
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def problem(self, where: Where, what: str) -> Problem:
        """Make a Problem at `where`, naming the file that holds it."""
        return Problem(_file_of(where, self.origins, self.path), toml_path(where), what)

    def file(self, name: str) -> Path:
        """Resolve the name of a secret or certificate file.

        An absolute name stands; a relative one is looked for among systemd's credentials
        ($CREDENTIALS_DIRECTORY) first, then beside the configuration file.
        """
        if Path(name).is_absolute():
            return Path(name)
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if credentials and (Path(credentials) / name).is_file():
            return Path(credentials) / name
        return self.path.parent / name


NO_FILE = Text(
    "no such file; name one with --config or $YUKIMI_CONFIG",
    "ファイルがありません。--config または $YUKIMI_CONFIG で指定してください",
)
UNREADABLE = Text("cannot be read: {why}", "読み込めません: {why}")
NOT_UTF8 = Text("is not UTF-8 text: byte {byte}", "UTF-8のテキストではありません（{byte}バイト目）")
NOT_TOML = Text("is not valid TOML: {why}", "TOMLとして正しくありません: {why}")
TOO_LARGE = Text("a whole number has at most 64 bits", "整数は64ビットまでです")
TOO_DEEP = Text("lists or tables too deep", "リストまたはテーブルの入れ子が深すぎます")


def load(path: Path, check: Check | None = None, further: Further | None = None) -> Loaded:
    """Read, merge and validate. Raises ConfigError with every problem found.

    `check` looks at the merged document as written, `further` at what is valid in itself; both
    return what they find wrong: whoever knows the drivers passes them, so that a wrong option is
    told together with all the rest.
    """
    document, origins = read(path)
    return validate(document, path, origins, check, further)


def read(path: Path) -> tuple[Toml, dict[Where, str]]:
    """Read and merge the files; return the document and which file holds what.

    Raises ConfigError with every problem found.
    """
    problems: list[Problem] = []
    document: Toml = {}
    origins: dict[Where, str] = {}
    for file in [path, *_beside(path, problems)]:
        try:
            part = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            problems.append(Problem(str(file), "", NO_FILE))
        except OSError as exc:
            problems.append(Problem(str(file), "", UNREADABLE.filled(why=exc.strerror)))
        except UnicodeDecodeError as exc:
            problems.append(Problem(str(file), "", NOT_UTF8.filled(byte=exc.start)))
        except ValueError as exc:  # not always TOMLDecodeError: 5,000 digits are a plain one
            problems.append(Problem(str(file), "", NOT_TOML.filled(why=exc)))
        except RecursionError:
            problems.append(Problem(str(file), "", NOT_TOML.filled(why=TOO_DEEP)))
        else:
            problems += _merge(document, part, (), str(file), origins)
    if problems:
        raise ConfigError(problems)
    return document, origins


def validate(
    document: Toml,
    path: Path,
    origins: Mapping[Where, str],
    check: Check | None = None,
    further: Further | None = None,
) -> Loaded:
    """Validate a merged document. Raises ConfigError with every problem found; see `load`."""
    if too_large := list(_too_large(document)):  # nobody can print them, let alone go by them
        raise ConfigError(
            Problem(_file_of(where, origins, path), toml_path(where), TOO_LARGE)
            for where in too_large
        )
    findings = list(check(document)) if check is not None else []
    config: Config | None = None
    try:
        config = Config.model_validate(document)
    except ValidationError as exc:
        findings = [*explain(exc, Config), *findings]
    if findings or config is None:
        raise ConfigError(
            Problem(_file_of(where, origins, path), toml_path(where), what)
            for where, what in findings
        )
    loaded = Loaded(config, document, path, origins)
    problems = [
        *_duplicates(loaded, "buses", [bus.id for bus in config.buses]),
        *_duplicates(loaded, "sensors", [sensor.id for sensor in config.sensors]),
        *_missing_files(loaded),
        *(further(loaded) if further is not None else ()),
    ]
    if problems:
        raise ConfigError(problems)
    return loaded


def toml_path(where: Where) -> str:
    """Write a location as TOML does: ("sensors", 2, "id") -> sensors[2].id."""
    text = ""
    for step in where:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _beside(path: Path, problems: list[Problem]) -> list[Path]:
    """List gateway.d/*.toml in name order. (Path.glob passes over a folder that it cannot read.)"""
    folder = path.parent / "gateway.d"
    try:
        return sorted(file for file in folder.iterdir() if file.name.endswith(".toml"))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        if folder.exists():  # else the configuration file's own folder is none, and it is told of
            problems.append(Problem(str(folder), "", NO_FOLDER))
    except OSError as exc:
        problems.append(Problem(str(folder), "", UNREADABLE.filled(why=exc.strerror)))
    return []


NO_FOLDER = Text("is no folder; move it away", "フォルダーではありません。別の場所へ移してください")
TWICE = Text(
    "this table is already in {file}; each table is written in one file",
    "このテーブルは {file} にもあります。1つのテーブルは1つのファイルに書いてください",
)
A_VALUE = Text("is a value in another file", "別のファイルでは値として書かれています")
NO_LIST = Text("is no list in another file", "別のファイルではリストではありません")


def _merge(
    into: Toml, part: Toml, where: Where, file: str, origins: dict[Where, str]
) -> list[Problem]:
    problems = []
    plain = [key for key, value in part.items() if not _holds_tables(value)]
    if plain and where in origins and origins[where] != file:
        what = TWICE.filled(file=origins[where])
        return [Problem(file, toml_path((*where, plain[0])), what)]
    if plain:
        origins[where] = file
    for key, value in part.items():
        here = (*where, key)
        if isinstance(value, dict):
            existing = into.setdefault(key, {})
            if isinstance(existing, dict):
                problems += _merge(existing, value, here, file, origins)
            else:
                problems.append(Problem(file, toml_path(here), A_VALUE))
        elif _holds_tables(value):
            items = into.setdefault(key, [])
            if not isinstance(items, list):
                problems.append(Problem(file, toml_path(here), NO_LIST))
                continue
            for item in value:
                origins[(*here, len(items))] = file
                items.append(item)
        else:
            into[key] = value
            origins[here] = file
    return problems


def _holds_tables(value: object) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    )


def _file_of(where: Where, origins: Mapping[Where, str], default: Path) -> str:
    for length in range(len(where), -1, -1):
        if where[:length] in origins:
            return origins[where[:length]]
    return str(default)


TAKEN = Text(
    '"{name}" is already the id of {path} in {file}',
    "「{name}」は {path}（{file}）のIDとして使われています",
)
NO_SECRET_FILE = Text(
    "{file} cannot be read: {why}; create it, or correct its mode",
    "{file} を読み込めません: {why}。作成するか、許可属性を直してください",
)
NO_NAME = Text("{name} is no name of a file", "{name} はファイル名として使えません")


def _too_large(value: object, where: Where = ()) -> Iterator[Where]:
    """Find whole numbers that are none of TOML's, which has those of 64 bits."""
    steps: Iterable[tuple[str | int, object]] = ()
    match value:
        case dict():
            steps = value.items()
        case list():
            steps = enumerate(value)
        case int() if not -(2**63) <= value < 2**63:
            yield where
    for step, inner in steps:
        yield from _too_large(inner, (*where, step))


def _duplicates(loaded: Loaded, table: str, ids: list[str]) -> list[Problem]:
    problems = []
    for index, name in enumerate(ids):
        first = ids.index(name)
        if first != index:
            earlier = loaded.problem((table, first), "")
            what = TAKEN.filled(name=name, path=earlier.path, file=earlier.file)
            problems.append(loaded.problem((table, index, "id"), what))
    return problems


def _missing_files(loaded: Loaded) -> list[Problem]:
    uplink = loaded.config.uplink
    named: list[tuple[Where, str | None]] = [
        (("uplink", "password_file"), uplink.password_file),
        (("uplink", "tls", "ca_file"), uplink.tls.ca_file),
        (("uplink", "tls", "cert_file"), uplink.tls.cert_file),
        (("uplink", "tls", "key_file"), uplink.tls.key_file),
        (("commands", "allowed_signers"), loaded.config.commands.allowed_signers),
    ]
    problems = []
    for where, name in named:
        if name is None:
            continue
        file = loaded.file(name)
        try:
            with file.open("rb"):
                pass
        except OSError as exc:
            what = NO_SECRET_FILE.filled(file=file, why=exc.strerror)
            problems.append(loaded.problem(where, what))
        except ValueError:  # a NUL in the name
            problems.append(loaded.problem(where, NO_NAME.filled(name=shown_value(name))))
    return problems


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if k not in SECRET_PATHS}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value
