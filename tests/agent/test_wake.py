"""A signal may come at any step of the thread that waits for it, and is heard."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from agent.wake import Wake

LONG_S = 60.0

# Lets `yukimi run`'s own handler interrupt, once for each line that they consist of, the three
# things that the main thread does with what wakes it. Whoever hangs is ended by the alarm.
INTERRUPTED = """\
import signal, sys, threading
from agent.cli.run import _Signals

signals = _Signals()
{before}
wake, interrupted = signals.wake, set()
assert not wake.wait(0.001)  # its modules are loaded
files = {{threading.__file__, sys.modules[type(wake).__module__].__file__}}

def trace(frame, event, _value):
    if frame.f_code.co_filename not in files or frame.f_code.co_name == "set":
        return None
    place = (frame.f_code.co_filename, frame.f_lineno)
    if event == "line" and place not in interrupted:
        interrupted.add(place)
        signal.raise_signal(signal.SIGHUP)
    return trace

signal.alarm({patience_s})
sys.settrace(trace)
heard = wake.wait(30.0)
wake.clear()
wake.wait(0.001)
sys.settrace(None)
assert heard and len(interrupted) > 5, (heard, interrupted)
"""


def _interrupted(before: str = "", patience_s: int = 120) -> int:
    script = INTERRUPTED.format(before=before, patience_s=patience_s)
    return subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_a_signal_at_any_step_of_the_wait_is_heard() -> None:
    assert _interrupted() == 0


def test_an_event_of_the_threading_module_would_hang_in_the_handler() -> None:
    code = _interrupted("signals.wake = threading.Event()", patience_s=3)
    assert code == -signal.SIGALRM


def test_it_is_not_set_until_somebody_sets_it() -> None:
    wake = Wake()
    assert not wake.is_set()
    assert not wake.wait(0.001)


def test_it_stays_set_until_it_is_cleared() -> None:
    wake = Wake()
    wake.set()
    wake.set()
    assert wake.is_set()
    assert wake.wait(LONG_S)
    assert wake.wait(LONG_S)
    wake.clear()
    assert not wake.is_set()
    assert not wake.wait(0.001)


def test_another_thread_wakes_who_waits() -> None:
    wake = Wake()
    timer = threading.Timer(0.05, wake.set)
    timer.start()
    assert wake.wait(LONG_S)
    timer.join()
