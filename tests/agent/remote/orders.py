"""Commands as somebody far away writes them, with OpenSSH's own tool."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

NOW = datetime(2027, 1, 15, 6, 0, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
GATEWAY = "chikaho-03"


def utc(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Signer:
    """A person with a key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._key = folder / name
        run = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self._key)]
        subprocess.run(run, check=True)

    def line(self, options: str = 'namespaces="yukimi-command"') -> str:
        """Return the line of the file of allowed signers."""
        public = self._key.with_suffix(".pub").read_text().split()
        return f"{self.name} {options} {public[0]} {public[1]}\n"

    def sign(self, text: str, namespace: str = "yukimi-command") -> str:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(self._key), "-n", namespace]
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=True)
        return done.stdout.decode()

    def order(self, text: str, **options: str) -> bytes:
        """Return the payload of a signed command."""
        document = {
            "schema": "yukimi.signed-command/1",
            "command": text,
            "signature": self.sign(text, **options),
        }
        return json.dumps(document).encode()


def text_of(verb: str, id_: str, /, **changed: Any) -> str:
    """Return a command's text, valid for an hour from NOW, with some of it `changed`."""
    document = {
        "schema": "yukimi.command/1",
        "gateway": GATEWAY,
        "verb": verb,
        "id": id_,
        "issued": utc(NOW),
        "expires": utc(NOW + timedelta(hours=1)),
        "arguments": {},
    }
    return json.dumps({k: v for k, v in (document | changed).items() if v is not None})
