"""Signatures as OpenSSH makes them: `ssh-keygen -Y sign`, checked by `ssh-keygen -Y verify`.

The file of allowed signers is ssh-keygen's (ALLOWED SIGNERS in its manual): a name, options such as
namespaces="yukimi-command" or valid-before, and a public key a line.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from .command import RefusedError, Signed

NAMESPACE = "yukimi-command"
PATIENCE_S = 20.0
LARGEST_SIGNATURE = 8192  # bytes


def signer(signed: Signed, allowed_signers: Path, now_ns: int | None) -> str:
    """Return the name of who signed it, and may at `now_ns` (UTC). Raises RefusedError."""
    if len(signed.signature) > LARGEST_SIGNATURE:
        raise RefusedError("wrong_signature", "the signature is too long")
    mode = _mode(allowed_signers)
    if mode & 0o022:
        told = f"{allowed_signers} can be written by others: sudo chmod 644 {allowed_signers}"
        raise RefusedError("failed", told)
    with tempfile.NamedTemporaryFile(prefix="yukimi-", suffix=".sig") as file:
        file.write(signed.signature)
        file.flush()
        named = ["-f", str(allowed_signers), "-s", file.name]
        if now_ns is not None:  # the system's clock may be wrong where a receiver tells us the time
            at = datetime.fromtimestamp(now_ns // 10**9, UTC)
            named += ["-O", f"verify-time={at:%Y%m%d%H%M%S}Z"]
        found = _run(["-Y", "find-principals", *named], b"")
        # A key may have several names, and each its own restrictions.
        for name in (found or b"").decode("utf-8", "replace").splitlines():
            if not name or name.startswith("-"):
                continue
            arguments = ["-Y", "verify", *named, "-I", name, "-n", NAMESPACE]
            if _run(arguments, signed.text) is not None:
                return name
    raise RefusedError("wrong_signature", "not signed by anybody who may, for this purpose")


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError as exc:
        told = f"{file}: {exc.strerror}: who may sign is not known"
        raise RefusedError("failed", told) from exc


def _run(arguments: list[str], text: bytes) -> bytes | None:
    """Return what ssh-keygen says; None where it says no."""
    try:
        done = subprocess.run(
            ["ssh-keygen", *arguments],
            input=text,
            capture_output=True,
            timeout=PATIENCE_S,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError as exc:
        raise RefusedError("failed", "ssh-keygen is missing: apt install openssh-client") from exc
    except subprocess.TimeoutExpired as exc:
        raise RefusedError("failed", "ssh-keygen does not answer") from exc
    return done.stdout if done.returncode == 0 else None
