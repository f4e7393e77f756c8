"""A network of its own for a real process, in a namespace of the kernel's; as root.

One cable leads out of it, from `inside` to `outside`, with the kernel's own TCP at both ends: what
is lost here is lost, and nobody acknowledges what never came. The host's kernel has no netem, so
nothing is late here; the relay can do that.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Self

from .ext4 import UnavailableError, run
from .ongoing import Heal, Ongoing, every

_PREFIX = "yukimi-"
_OWNED = re.compile(rf"^{_PREFIX}(\d+)-\d+$")
_FILES = Path("/etc/netns")  # what `ip netns exec` puts over the files of /etc
_NAMESPACES = Path("/run/netns")
_BURST_BYTES = 3000  # two frames
_WAIT_MS = 400  # in the throttle's queue
_RESOLVER = "nameserver {address}\noptions timeout:1 attempts:2\n"

_number = count(1)


class Namespace:
    """The namespace and its cable; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        """Make it. Raises UnavailableError."""
        if os.geteuid() != 0:
            raise UnavailableError("a network namespace needs root")
        sweep()
        number = next(_number)
        self.name = f"{_PREFIX}{os.getpid()}-{number}"
        # 198.18.0.0/15 is for benches (RFC 2544).
        third = (os.getpid() + number) % 256
        self.outside, self.inside = (f"198.18.{third}.{last}" for last in (1, 2))
        self._cable = f"yk{os.getpid() % 10**7}-{number}"
        self._far_cable = f"{self._cable}i"
        self._tables = count()
        self._down = Ongoing[None]()
        self._throttled = Ongoing[float]()
        self._files = _FILES / self.name
        try:
            self._make()
        except UnavailableError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def prefix(self) -> Sequence[str]:
        """What to put before a command for it to run inside; it keeps its process id."""
        return ("ip", "netns", "exec", self.name)

    def unplug(self) -> Heal:
        """Pull the cable: nothing comes through, and nobody at the other end is told."""
        return self._again(self._down.begin(None), self._pull)

    def lose(self, share: float) -> Heal:
        """Lose this share of the packets, each way."""
        thousandths = round(share * 1000)
        chance = f"numgen random mod 1000 < {thousandths} " if thousandths < 1000 else ""
        return self._filtered(f"{chance}drop")

    def throttle(self, bytes_per_s: float) -> Heal:
        """Carry no more than this each way; what waits too long is dropped, as on a modem."""
        return self._again(self._throttled.begin(bytes_per_s), self._narrow)

    def close(self) -> None:
        """Remove it; processes inside keep what they have, and lose the cable."""
        with suppress(UnavailableError):
            run("ip", "netns", "del", self.name)
        with suppress(UnavailableError):  # gone with the namespace, unless somebody is inside
            run("ip", "link", "del", self._cable)
        shutil.rmtree(self._files, ignore_errors=True)

    def _make(self) -> None:
        self._files.mkdir(parents=True)
        (self._files / "resolv.conf").write_text(_RESOLVER.format(address=self.outside))
        run("ip", "netns", "add", self.name)
        far = ("peer", "name", self._far_cable, "netns", self.name)
        run("ip", "link", "add", self._cable, "type", "veth", *far)
        run("ip", "address", "add", f"{self.outside}/30", "dev", self._cable)
        run("ip", "link", "set", self._cable, "up")
        self._inside("ip", "address", "add", f"{self.inside}/30", "dev", self._far_cable)
        for device in ("lo", self._far_cable):
            self._inside("ip", "link", "set", device, "up")

    def _inside(self, *command: str) -> str:
        return run(*self.prefix, *command)

    def _pull(self) -> None:
        run("ip", "link", "set", self._cable, "down" if self._down else "up")

    def _narrow(self) -> None:
        """Give both ends of the cable the narrowest of the throttles, or none."""
        ends = ((self._cable, run), (self._far_cable, self._inside))
        for device, act in ends:
            with suppress(UnavailableError):  # there was none
                act("tc", "qdisc", "del", "dev", device, "root")
            if self._throttled:
                rate = ("rate", f"{round(min(self._throttled))}bps")  # tc's word for bytes/s
                limits = ("burst", str(_BURST_BYTES), "latency", f"{_WAIT_MS}ms")
                act("tc", "qdisc", "add", "dev", device, "root", "tbf", *rate, *limits)

    def _filtered(self, rule: str) -> Heal:
        table = f"fault{next(self._tables)}"
        commands = [f"add table inet {table}"]
        for hook in ("input", "output"):
            commands += [
                f"add chain inet {table} {hook} {{ type filter hook {hook} priority 0; }}",
                f"add rule inet {table} {hook} {rule}",
            ]
        self._inside("nft", "; ".join(commands))

        def heal() -> None:
            with suppress(UnavailableError):
                self._inside("nft", "delete", "table", "inet", table)

        return heal

    def _again(self, end: Heal, act: Heal) -> Heal:
        act()
        return every(end, act)


def sweep() -> None:
    """Remove what benches left behind that were killed."""
    for place in (_NAMESPACES, _FILES):
        for path in place.glob(f"{_PREFIX}*") if place.exists() else ():
            owner = _OWNED.match(path.name)
            if owner is None or Path(f"/proc/{owner[1]}").exists():
                continue
            with suppress(UnavailableError):
                run("ip", "netns", "del", path.name)
            shutil.rmtree(_FILES / path.name, ignore_errors=True)
