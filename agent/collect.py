"""What somebody far away needs to understand a gateway, in one small file without secrets.

Each part is gathered for itself, and one that cannot be had is named with the reason. All of it is
scrubbed of secrets, packed, unpacked again and searched for each of them: if one is found, there is
no file. Of people it holds what the report holds: published figures.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.load import ConfigError, read
from config.places import CREDENTIALS
from config.text import Language

from . import applied, lastgood, ownverbs
from .changed import history
from .record import utc_text
from .redaction import Secrets
from .report.facts import Facts
from .report.gather import gather, scrubbed, with_checks
from .report.page import page

SCHEMA = "yukimi.collect/1"
TEXT_BYTES = 2**20  # of the journal, and of any other part
KERNEL_BYTES = 2**18
JOURNAL_LINES = 4000
LOG_S = 30.0
VERB_S = 120.0
MOST_BYTES = 5 * 10**6  # of the finished file

JOURNAL = ("journalctl", "-u", "yukimi", "-n", str(JOURNAL_LINES), "-o", "short-iso", "--no-pager")
KERNEL = ("dmesg",)
# What the kernel says of buses, storage, power and clocks; the rest is none of ours.
OF_BUSES = re.compile(
    r"i2c|usb|tty|serial|ftdi|cp210|ch34|pl2303|cdc_acm|w1[_-]|1-wire|gpio|\bspi|mmc|ext4|i/o error"
    r"|volt|throttl|thermal|\brtc|watchdog|out of memory|oom",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Collection:
    """The parts, by name, and why others are missing."""

    parts: dict[str, bytes] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def text(self, name: str, text: str, most_bytes: int = TEXT_BYTES) -> None:
        """Take a text; of one that is too long, the end."""
        self.parts[name] = text.encode("utf-8", errors="replace")[-most_bytes:]

    def document(self, name: str, document: Any) -> None:
        """Take a document."""
        text = json.dumps(document, ensure_ascii=False, indent=1, default=str)
        if len(text.encode()) > TEXT_BYTES:
            self.missing[name] = "is too large"
        else:
            self.text(name, text + "\n")

    def said(self, name: str, said: ownverbs.Said, secrets: Secrets) -> None:
        """Take what a command said."""
        if said.why_not is None:
            self.text(name, secrets.scrub(said.out.decode("utf-8", errors="replace")))
        else:
            self.missing[name] = said.why_not


def secrets_of(config_file: Path) -> Secrets:
    """Return all that is known to be secret on this gateway."""
    secrets = Secrets()
    documents = []
    with suppress(ConfigError):  # then the last good one names the same files
        documents.append(read(config_file)[0])
    kept = lastgood.find(config_file)
    if kept is not None:
        documents.append(kept[0].document)
    with suppress(OSError):  # then they are not in it either
        documents += [each.document for each in applied.find(config_file).entries()]
    for document in documents:
        secrets.add_configuration(document, lambda name: _files(name, config_file))
    secrets.add_environment(os.environ)
    return secrets


def collect(config_file: Path, secrets: Secrets, language: Language) -> Collection:
    """Gather everything. Never fails: what cannot be had is missing."""
    found = Collection()
    facts = gather(config_file, asks_doctor=False)
    for name, verb in (("doctor.json", ["doctor"]), ("privacy-audit.json", ["privacy", "audit"])):
        said = ownverbs.document(verb, str(config_file), time_s=VERB_S)
        if isinstance(said, str):
            found.missing[name] = secrets.scrub(said)
            continue
        found.document(name, secrets.scrub_all(said))
        if name == "doctor.json":
            facts = with_checks(facts, said)
    facts = scrubbed(facts, secrets)
    found.text("report.html", page(facts, language))
    _take_facts(found, facts)
    try:
        found.document("configurations.json", secrets.scrub_all(history(config_file)))
    except OSError as exc:
        found.missing["configurations.json"] = exc.strerror or str(exc)
    found.said("journal.txt", ownverbs.run(JOURNAL, time_s=LOG_S), secrets)
    kernel = ownverbs.run(KERNEL, time_s=LOG_S)
    if kernel.why_not is None:
        kernel = ownverbs.Said(out=_of_buses(kernel.out))
    found.said("kernel.txt", kernel, secrets)
    found.document("manifest.json", _manifest(found, facts, secrets))
    return found


def pack(collection: Collection, made_s: float) -> bytes:
    """Return the parts as a tarball; the same parts give the same bytes."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=int(made_s)) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content in sorted(collection.parts.items()):
            info = tarfile.TarInfo(f"yukimi-diag/{name}")
            info.size, info.mtime, info.mode = len(content), int(made_s), 0o600
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def check(packed: bytes, secrets: Secrets) -> None:
    """Search a finished tarball. Raises LeakError if there is a secret in it, in any form."""
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
        for member in tar:
            secrets.check("the name of a part", member.name.encode())
            content = tar.extractfile(member)
            if content is not None:
                secrets.check(member.name, content.read())


def _take_facts(found: Collection, facts: Facts) -> None:
    parts: Iterable[tuple[str, Any, object]] = (
        ("status.json", facts.running, facts.why_silent),
        ("spool.json", facts.spool, facts.spool_trouble or "there is none yet"),
        ("configuration.json", facts.configuration, "it cannot be read"),
        ("versions.json", dict(facts.versions), ""),
    )
    for name, document, why_not in parts:
        if document is None:
            found.missing[name] = str(why_not)
        else:
            found.document(name, document)


def _manifest(found: Collection, facts: Facts, secrets: Secrets) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "made": utc_text(round(facts.made_s * 1e9)),
        "gateway": facts.gateway,
        "parts": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in sorted(found.parts.items())
        },
        "missing": found.missing,
        "problems": [str(problem) for problem in facts.problems],
        "too_short_to_be_searched": secrets.too_short,
    }


def _of_buses(said: bytes) -> bytes:
    lines = [
        line
        for line in said.decode("utf-8", errors="replace").splitlines()
        if OF_BUSES.search(line)
    ]
    return "\n".join([*lines, ""]).encode()[-KERNEL_BYTES:]


def _files(name: str, config_file: Path) -> list[Path]:
    """Return where a secret file may be: among credentials, and beside the configuration."""
    folders = [*map(Path, CREDENTIALS), config_file.parent]
    if os.environ.get("CREDENTIALS_DIRECTORY"):
        folders.append(Path(os.environ["CREDENTIALS_DIRECTORY"]))
    return [folder / name for folder in folders]  # an absolute name stands
