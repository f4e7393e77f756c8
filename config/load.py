"""From TOML files to a `Config`, or to every reason why not, in a technician's words.

`gateway.toml` and, in name order, `gateway.d/*.toml` beside it become one document in which each
table is written in one file only. All problems are found at once; each names the file, the TOML
path, what is wrong and, for a misspelt name, the nearest valid one.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .model import Config
from .places import default_path as default_path  # the tools ask here for both

SECRET_PATHS = frozenset(("password_file", "key_file"))

Toml = dict[str, Any]
Where = tuple[str | int, ...]
Finding = tuple[Where, str]
Check = Callable[[Toml], Iterable[Finding]]
Further = Callable[["Loaded"], Iterable["Problem"]]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that a human must edit."""

    file: str
    path: str  # as in TOML: sensors[2].options.mount_height_cm
    what: str

    def __str__(self) -> str:
        return (
            f"{self.file}: {self.path}: {self.what}" if self.path else f"{self.file}: {self.what}"
        )


class ConfigError(Exception):
    """The configuration cannot be used. A human must edit it; all problems are listed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration and where it came from."""

    config: Config
    document: Toml  # merged, as written
    path: Path
    origins: Mapping[Where, str] = field(repr=False)

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
            problems.append(
                Problem(str(file), "", "no such file; name one with --config or $YUKIMI_CONFIG")
            )
        except OSError as exc:
            problems.append(Problem(str(file), "", f"cannot be read: {exc.strerror}"))
        except UnicodeDecodeError as exc:
            problems.append(Problem(str(file), "", f"is not UTF-8 text: byte {exc.start}"))
        except tomllib.TOMLDecodeError as exc:
            problems.append(Problem(str(file), "", f"is not valid TOML: {exc}"))
        except RecursionError:
            problems.append(Problem(str(file), "", "is not valid TOML: lists or tables too deep"))
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


def nearest(name: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or what there is: "; did you mean ...?"."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(names)}" if names else ""


def explain(error: ValidationError, model: type[BaseModel]) -> list[Finding]:
    """Turn pydantic's findings into (location, sentence) pairs."""
    return [_sentence(detail, model) for detail in error.errors(include_url=False)]


_WANTED = {
    "string_type": "must be a text in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
}


def _sentence(detail: ErrorDetails, model: type[BaseModel]) -> Finding:
    where = tuple(step for step in detail["loc"] if not _is_type_tag(step))
    kind, shown = detail["type"], _shown(detail["input"])
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(where[-1])
        if name in ("password", "key"):
            return where, f'secrets are never in the file: name a file that holds it, "{name}_file"'
        return where, f'unknown key "{name}"' + nearest(name, _keys(model, where[:-1]))
    if kind == "missing":
        return where, "is missing and has no default"
    if kind == "literal_error":
        allowed = str(context["expected"]).replace("'", '"')
        return where, f"must be {allowed}, not {shown}"
    if kind == "value_error":
        return where, str(context["error"])
    if kind in _WANTED:
        return where, f"{_WANTED[kind]}, not {shown}"
    if kind == "too_short":
        return where, f"needs at least {context['min_length']} entry"
    words = {"greater_than_equal": "at least", "greater_than": "more than"} | {
        "less_than_equal": "at most",
        "less_than": "less than",
    }
    if kind in words:
        limit = next(value for key, value in context.items() if key in ("ge", "gt", "le", "lt"))
        return where, f"must be {words[kind]} {limit}, not {shown}"
    return where, f"{detail['msg']}, not {shown}"


def _is_type_tag(step: str | int) -> bool:
    # pydantic adds "function-after[...]" and the like to locations inside unions
    return isinstance(step, str) and ("[" in step or step in ("str", "int", "float"))


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel], where: Where) -> list[str]:
    current: type[BaseModel] | None = model
    for step in where:
        if isinstance(step, int) or current is None:
            continue
        info = current.model_fields.get(step)
        if info is not None:  # else a name of the user's, above the model
            current = _model_in(info.annotation)
    fields = {} if current is None else current.model_fields
    return [info.alias or name for name, info in fields.items()]


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (list, dict, Union, types.UnionType):
        return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)
    return None


def _beside(path: Path, problems: list[Problem]) -> list[Path]:
    """List gateway.d/*.toml in name order. (Path.glob passes over a folder that it cannot read.)"""
    folder = path.parent / "gateway.d"
    try:
        return sorted(file for file in folder.iterdir() if file.name.endswith(".toml"))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        if folder.exists():  # else the configuration file's own folder is none, and it is told of
            problems.append(Problem(str(folder), "", "is no folder; move it away"))
    except OSError as exc:
        problems.append(Problem(str(folder), "", f"cannot be read: {exc.strerror}"))
    return []


def _merge(
    into: Toml, part: Toml, where: Where, file: str, origins: dict[Where, str]
) -> list[Problem]:
    problems = []
    plain = [key for key, value in part.items() if not _holds_tables(value)]
    if plain and where in origins and origins[where] != file:
        what = f"this table is already in {origins[where]}; each table is written in one file"
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
                problems.append(Problem(file, toml_path(here), "is a value in another file"))
        elif _holds_tables(value):
            items = into.setdefault(key, [])
            if not isinstance(items, list):
                problems.append(Problem(file, toml_path(here), "is no list in another file"))
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


def _duplicates(loaded: Loaded, table: str, ids: list[str]) -> list[Problem]:
    problems = []
    for index, name in enumerate(ids):
        first = ids.index(name)
        if first != index:
            earlier = loaded.problem((table, first), "")
            what = f'"{name}" is already the id of {earlier.path} in {earlier.file}'
            problems.append(loaded.problem((table, index, "id"), what))
    return problems


def _missing_files(loaded: Loaded) -> list[Problem]:
    uplink = loaded.config.uplink
    named: list[tuple[Where, str | None]] = [
        (("uplink", "password_file"), uplink.password_file),
        (("uplink", "tls", "ca_file"), uplink.tls.ca_file),
        (("uplink", "tls", "cert_file"), uplink.tls.cert_file),
        (("uplink", "tls", "key_file"), uplink.tls.key_file),
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
            what = f"{file} cannot be read: {exc.strerror}; create it, or correct its mode"
            problems.append(loaded.problem(where, what))
        except ValueError:  # a NUL in the name
            problems.append(loaded.problem(where, f"{_shown(name)} is no name of a file"))
    return problems


def _without_secrets(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items() if k not in SECRET_PATHS}
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return value
