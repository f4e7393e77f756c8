"""A terminal on the virtual Pi's console, with the hardware run's devices on its wires."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty
from contextlib import suppress

from .hardware import virtual_pi
from .image import Image
from .qmp import MachineError

_END = b"\x1d"  # Ctrl-], as telnet has it


def shell(image: Image) -> None:
    """Boot, and connect this terminal until Ctrl-] or until the machine is off."""
    if not sys.stdin.isatty():
        raise MachineError("a shell needs a terminal")
    with virtual_pi(image) as pi:
        pi.start()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
            console.connect(str(pi.console_socket))
            before = termios.tcgetattr(sys.stdin)
            tty.setraw(sys.stdin)
            try:
                with suppress(OSError):
                    _carry(console)
            finally:
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _carry(console: socket.socket) -> None:
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    while True:
        ready, _, _ = select.select([keyboard, console.fileno()], [], [])
        if keyboard in ready:
            typed = os.read(keyboard, 1024)
            if _END in typed:
                return
            console.sendall(typed)
        if console.fileno() in ready:
            said = console.recv(65536)
            if not said:
                return
            os.write(screen, said)
