"""What each check looks at, why, and what to do: for `--explain` on the spot, and as a document."""

from __future__ import annotations

from config.text import Language, Text

from .findings import Blink, Check
from .order import CHECKS

_WHAT = Text("What is checked", "点検の内容")
_WHY = Text("Why it matters", "理由")
_DO = Text("What to do", "対処")
_FIRST = Text("Not run where one of these failed: {ids}.", "次が異常の場合は実行しません: {ids}")
_BLINKS: dict[Blink, Text] = {
    Blink.SENSOR: Text("sensor", "センサー"),
    Blink.NETWORK: Text("network", "通信"),
    Blink.CLOCK: Text("clock", "時計"),
    Blink.DISK: Text("disk", "ディスク"),
    Blink.SOFTWARE: Text("software", "設定・ソフトウェア"),
    Blink.POWER: Text("power", "電源"),
}


def explained(check: Check, language: Language) -> str:
    """Return a check's page as plain text."""
    page = check.page
    lines = [f"{check.id}  {check.title.of(language)}", ""]
    for head, text in ((_WHAT, page.what), (_WHY, page.why)):
        lines += [f"{head.of(language)}: {text.of(language)}", ""]
    lines.append(f"{_DO.of(language)}:")
    lines += [f"  {at}. {step.of(language)}" for at, step in enumerate(page.do, 1)]
    if check.needs:
        lines += ["", _FIRST.of(language, ids=", ".join(check.needs))]
    return "\n".join(lines)


def blinks(blink: Blink, language: Language) -> str:
    """Return what a number of blinks is about."""
    return _BLINKS[blink].of(language)


def document() -> str:
    """Return docs/doctor.md."""
    lines = [_HEAD, "| id | | 点検 | blinks |", "|---|---|---|---|"]
    for check in CHECKS:
        anchor = f"[{check.id}](#{check.id.lower()})"
        blink = f"{check.blink.value} ({blinks(check.blink, 'en')})"
        lines.append(f"| {anchor} | {check.title} | {check.title.ja} | {blink} |")
    for check in CHECKS:
        lines += ["", f"## {check.id}"]
        for language in ("en", "ja"):
            lines += ["", *_section(check, language)]
    return "\n".join(lines) + "\n"


def _section(check: Check, language: Language) -> list[str]:
    page = check.page
    said = f"**{check.title.of(language)}.** {page.what.of(language)} {page.why.of(language)}"
    steps = [f"{at}. {step.of(language)}" for at, step in enumerate(page.do, 1)]
    return [said, "", *steps]


_HEAD = """\
# What `yukimi doctor` checks

<!-- generated from agent/doctor by `make schemas` -->

`yukimi doctor` looks at everything between the sensors' wires and the broker, side by side, and
ends within 15 seconds however much is broken. It needs no network. `--json` says the same to
programs, `--explain ID` prints one of the pages below without a network, `--all` lists what passed,
too. With `sudo` it sees more: who holds a port, the spool, secrets. Exit code 0: healthy, warnings
included; 1: something FAILs, an invalid configuration included; 2: wrong usage.

The checks stand in the order of diagnosis. One that needs another is skipped where that one failed
("because YK-NET-02 failed"), and so is one that is only its consequence: **the first FAIL is the
cause**. Where the gateway runs and answers, its own word counts: it holds the buses and the
connection. Else sensors are read and the broker is greeted directly.

What it does to others: it opens configured ports that nobody holds, and asks configured sensors
what the gateway would ask; it looks for an I2C device at every address of its bus; it writes and
syncs a file without a name beside the spool; it asks a time server once where the clock is not
synchronised. Only while the gateway is not connected it logs in to the broker as the gateway's
user, with the client id `GATEWAY-doctor`, and publishes one empty, not retained message, twice, on
`ROOT/GATEWAY/alarm/gateway/doctor`. By the contract an empty alarm means that nothing is raised,
and no alert has that name.

Measured with `python -m hil cabinets`, which breaks one thing in each of 64 cabinets (real
Mosquitto with TLS and access lists, emulated devices on real terminals, running gateways; a tree of
files for what only a Pi has) and leaves 3 sound: 64 of 64 causes were named first, with the step
that mends them, and nothing else was accused in any. With silent sensors on three buses, a name
server, a firewall and a broker that never answer, and no time server, all at once, it took 7.4 s
(x86-64, two cores). It has not met a real Pi.

A check's number of blinks is what a lamp can show of it to somebody without a screen.
"""
