"""A listening Unix socket as a file: who may connect, and what may be in its place already.

A socket that nobody listens to is replaced; one that answers, and any file that is no socket, is
left alone. The folder is made if it is missing. Owner and group may connect, and where a group
`yukimi` exists and we may give files to it, it is that one.
"""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

PATH_BYTES = 107  # sockaddr_un holds 108 with the closing NUL
MODE = 0o660
FOLDER_MODE = 0o755
GROUP = "yukimi"
BACKLOG = 64
PROBE_S = 1.0


class ListenError(Exception):
    """There can be no socket at this path; the message says why and what to do."""


class OpenSocket:
    """A socket that listens."""

    def __init__(self, path: Path) -> None:
        """Make it. Raises ListenError."""
        self.path = path
        # It is made under another name: whoever finds the file finds somebody who listens.
        unseen = path.with_name(f".{os.getpid()}")
        length = max(len(os.fsencode(each)) for each in (path, unseen))
        if length > PATH_BYTES:
            raise ListenError(
                f"{path}: a socket's path has at most {PATH_BYTES} bytes, this one has {length}:"
                " set [control] socket to a shorter one"
            )
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.setblocking(False)
            path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _look(path)
            unseen.unlink(missing_ok=True)
            self.socket.bind(str(unseen))
            # Nobody can connect before `listen`, and so nobody with rights that are too wide.
            unseen.chmod(MODE)
            with suppress(KeyError, OSError):
                os.chown(unseen, -1, grp.getgrnam(GROUP).gr_gid)
            self.socket.listen(BACKLOG)
            self._identity = _identity(unseen)
            unseen.rename(path)
        except OSError as exc:
            self.socket.close()
            raise ListenError(f"{path}: {exc.strerror or exc}{_advice(exc)}") from exc
        except BaseException:
            self.socket.close()
            raise

    def is_there(self) -> bool:
        """Tell whether the file is still the one that was made."""
        return _identity(self.path) == self._identity

    def close(self) -> None:
        """Close it, and remove the file if it is still ours."""
        if self.is_there():
            with suppress(OSError):
                self.path.unlink()
        self.socket.close()


def _look(path: Path) -> None:
    """Make sure that nobody needs what is there. Raises ListenError, OSError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path}: there is a file that is no socket: move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return  # left behind: what is made takes its place
        except (TimeoutError, BlockingIOError):
            pass  # somebody listens, and has much to do
    raise ListenError(f"{path}: another gateway listens here: give each its own [control] socket")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _advice(exc: OSError) -> str:
    if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ": set [control] socket to a folder that the daemon may write"
    return ""
