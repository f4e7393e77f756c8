"""Nothing secret leaves in what is shown or handed out: by structure, and by value.

By structure: of a configuration, what stands under a key that names a secret, and what stands
before the @ of a URL, is replaced. By value: whatever is known to be secret (the contents of the
files that the configuration names, what was replaced by structure, the environment's secrets) is
looked for in everything that goes out, also percent-encoded, as base64 at any offset, as
hexadecimal, and as JSON and HTML escape it.

What can only be guessed at, such as a password in a line of a log, is taken out by its shape.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from config.load import SECRET_PATHS
from config.text import Text

REMOVED = "[removed]"
LEAST_CHARACTERS = 4  # of a secret that is looked for: what is shorter is found everywhere
LEAST_IN_ENVIRONMENT = 6  # there a "TOKEN" may well be a small number
FILE_BYTES = 2**16  # of a secret file
LEAST_LINE = 16  # of a line of a key that tells something by itself

_NAMES_SECRET = re.compile(
    r"(?:^|[_-])(?:pass(?:word|wd|phrase|code)?|secret|token|psk|key|credentials?|auth)(?:$|[_-])",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(r"(?:_file|_sock|_s|_bytes)$", re.IGNORECASE)
_IN_URL = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s/?#\"'@]*)@", re.IGNORECASE)
_IN_LOG = re.compile(
    r"(?P<name>\b[\w-]*(?:password|passwd|passphrase|secret|token|api[_-]?key)[\w-]*"
    r"[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s\"',;}]+)",
    re.IGNORECASE,
)
_AUTHORISATION = re.compile(r"(?P<name>\b(?:basic|bearer)\s+)(?P<value>[\w+/=.~-]{8,})", re.I)
_PEM = re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL)


LEAK = Text(
    "{name}: holds the secret of {where}, and nothing was written. Where it is a common word,"
    " change it; else please report this",
    "{name}: {where} の秘密情報が含まれるため、作成を中止しました。ありふれた語であれば変更し、"
    "そうでなければご報告ください",
)


class LeakError(Exception):
    """A secret was found in what is about to be handed out; the message does not repeat it."""


def redacted(document: object) -> Any:
    """Return a configuration without what its structure shows to be secret."""
    if isinstance(document, Mapping):
        return {
            key: REMOVED if names_secret(str(key)) and value else redacted(value)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [redacted(each) for each in document]
    return without_user(document) if isinstance(document, str) else document


def names_secret(key: str) -> bool:
    """Tell whether a key is that of a secret, not of a file that holds one."""
    return bool(_NAMES_SECRET.search(key)) and not _NOT_SECRET.search(key)


def without_user(text: str) -> str:
    """Return a text without names and passwords in URLs."""
    return _IN_URL.sub(lambda found: f"{found['scheme']}{REMOVED}@", text)


FindFiles = Callable[[str], Iterable[Path]]  # of a name in the configuration: where it may be


class Secrets:
    """What must not go out, each with where it is from."""

    def __init__(self) -> None:
        self._forms: dict[str, str] = {}  # any form of one -> where it is from
        self._pattern: re.Pattern[str] | None = None
        self.too_short: list[str] = []  # where secrets are from that nobody can look for
        self.unreadable: list[str] = []  # files that hold some, and may not be read

    def add(self, value: str, where: str) -> None:
        """Take one; `where` is shown to people."""
        value = value.strip()
        if not value or value == REMOVED:
            return
        if len(value) < LEAST_CHARACTERS:
            self.too_short.append(where)
            return
        for form in forms_of(value):
            self._forms.setdefault(form, where)
        self._pattern = None

    def add_configuration(self, document: object, find_files: FindFiles) -> None:
        """Take what a configuration holds and names, be it right or wrong."""
        for where, value in _secrets_in(document, ""):
            self.add(value, where)
        for where, name in _files_in(document, ""):
            self._add_file(name, where, find_files)

    def add_environment(self, environment: Mapping[str, str]) -> None:
        """Take what the environment calls a secret."""
        for name, value in environment.items():
            if names_secret(name) and len(value) >= LEAST_IN_ENVIRONMENT:
                self.add(value, f"the environment's {name}")

    def scrub(self, text: str) -> str:
        """Return a text without what is secret by value or by its shape."""
        text = _PEM.sub(REMOVED, text)
        if self._forms:
            if self._pattern is None:
                longest_first = sorted(self._forms, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, longest_first)))
            text = self._pattern.sub(REMOVED, text)
        text = without_user(text)
        for shape in (_IN_LOG, _AUTHORISATION):
            text = shape.sub(lambda found: f"{found['name']}{REMOVED}", text)
        return text

    def scrub_all(self, document: object) -> Any:
        """Return a document with every text in it scrubbed."""
        if isinstance(document, Text):
            return Text(self.scrub(document.en), self.scrub(document.ja))
        if isinstance(document, Mapping):
            return {self.scrub(str(k)): self.scrub_all(v) for k, v in document.items()}
        if isinstance(document, list | tuple):
            return [self.scrub_all(each) for each in document]
        return self.scrub(document) if isinstance(document, str) else document

    def check(self, name: str, content: bytes) -> None:
        """Raise LeakError if a secret is in the content in any form."""
        text = content.decode("utf-8", errors="surrogateescape")
        for form, where in self._forms.items():
            if form in text:
                raise LeakError(LEAK.filled(name=name, where=where))

    def _add_file(self, name: str, where: str, find_files: FindFiles) -> None:
        is_there = False
        for file in find_files(name):
            try:
                with file.open("rb") as opened:
                    content = opened.read(FILE_BYTES)
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                self.unreadable.append(str(file))
            else:
                self._add_content(content.decode("utf-8", errors="surrogateescape"), where)
            is_there = True
        if not is_there and "/" not in name:
            self.add(name, where)  # it may be the secret itself, written there by mistake

    def _add_content(self, content: str, where: str) -> None:
        self.add(content, where)
        lines = content.splitlines()
        is_pem = any(line.startswith("-----BEGIN") for line in lines)
        for line in lines:
            if not is_pem or (len(line) >= LEAST_LINE and not line.startswith("-----")):
                self.add(line, where)


def forms_of(value: str) -> set[str]:
    """Return a secret as it may stand in other texts."""
    raw = value.encode("utf-8", errors="surrogateescape")
    forms = {value, raw.hex(), raw.hex().upper(), escape(value), escape(value, quote=False)}
    forms |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    for encode in (quote, quote_plus):
        for safe in ("", "/"):
            quoted = encode(raw, safe=safe)
            forms |= {quoted, re.sub("%..", lambda found: found[0].lower(), quoted)}
    for offset in range(3):
        # What of it is whole characters, wherever in a longer text it begins.
        text = b64encode(bytes(offset) + raw).decode().rstrip("=")
        first = -(-offset * 8 // 6)
        last = (offset + len(raw)) * 8 // 6
        inner = text[first:last]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {form for form in forms if len(form) >= LEAST_CHARACTERS}


def _secrets_in(document: object, where: str) -> Iterator[tuple[str, str]]:
    for key, value in _items(document):
        here = f"{where}.{key}" if where else str(key)
        if isinstance(key, str) and names_secret(key):
            yield from ((here, each) for each in _texts(value))
        elif isinstance(value, str):
            for found in _IN_URL.finditer(value):
                yield here, found["user"]
                for part in found["user"].split(":")[1:]:
                    yield here, part
                    yield here, unquote(part)
        else:
            yield from _secrets_in(value, here)


def _files_in(document: object, where: str) -> Iterator[tuple[str, str]]:
    for key, value in _items(document):
        here = f"{where}.{key}" if where else str(key)
        if isinstance(value, str):
            if key in SECRET_PATHS or (isinstance(key, str) and _is_file_of_secret(key)):
                yield here, value
        else:
            yield from _files_in(value, here)


def _is_file_of_secret(key: str) -> bool:
    return key.endswith("_file") and names_secret(key.removesuffix("_file"))


def _items(document: object) -> Iterable[tuple[object, object]]:
    if isinstance(document, Mapping):
        return document.items()
    return enumerate(document) if isinstance(document, list) else ()


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)
    for _, each in _items(value):
        yield from _texts(each)
