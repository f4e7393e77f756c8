"""Stopping code at each of its steps: by a death of the process, or by a failing disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any

MORE_THAN_ENOUGH = 1000

# What reaches the disk, by the names of the functions in C.
DISK_CALLS = {"chmod", "connect", "execute", "fchmod", "fsync", "mkdir", "open", "read", "rename"}
DISK_CALLS |= {"replace", "stat", "unlink", "write"}


def killed_at_each_line(module: ModuleType, live: Callable[[], None]) -> Iterator[None]:
    """Let a child die at line 1, 2, 3 ... that it runs of `module`; yield after each death.

    Ends once a child has lived to the end. What it had not yet given to the kernel is gone.
    """
    for step in range(1, MORE_THAN_ENOUGH):
        pid = os.fork()
        if pid == 0:
            try:
                _die_at_line(module, step, live)
            except BaseException:  # noqa: BLE001  (a child must not come back into the test)
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9), f"the child failed at line {step}"
        if code == 0:
            return
        yield


def failed_at_each_call(
    live: Callable[[], None], failure: tuple[type[Exception], ...]
) -> Iterator[bool]:
    """Let call 1, 2, 3 ... to the disk fail; yield whether it came out as `failure`.

    Ends once there was no such call. Any other exception goes through.
    """
    for step in range(1, MORE_THAN_ENOUGH):
        left = step

        def profile(_frame: FrameType, event: str, function: Any) -> None:
            nonlocal left
            if event == "c_call" and function.__name__ in DISK_CALLS:
                left -= 1
                if left == 0:
                    raise OSError(errno.EIO, f"injected: {function.__name__}")

        failed = False
        sys.setprofile(profile)
        try:
            live()
        except failure:
            failed = True
        finally:
            sys.setprofile(None)
        if left > 0:
            return
        yield failed


def _die_at_line(module: ModuleType, step: int, live: Callable[[], None]) -> None:
    left = step

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os._exit(9)
        return trace

    sys.settrace(trace)
    live()
