"""By which time certificates are judged here: by the daemon's rule, docs/tls.md.

The system's clock is gone by only where somebody vouches for it.
"""

from __future__ import annotations

from contextlib import suppress

from . import told
from .site import Site


def floor_ns(site: Site) -> int | None:
    """Return UTC that has certainly passed, which then is all that is known; None: the clock's."""
    return site.once("floor", lambda: _floor_ns(site))


def now_ns(site: Site) -> int:
    """Return the time by which dates are judged."""
    floor = floor_ns(site)
    return site.seen.utc_ns if floor is None else floor


def _floor_ns(site: Site) -> int | None:
    from agent import clock
    from agent.kernel import rtc_s

    from .spool import facts

    look = site.seen
    heard = told.part(site, "clock")
    if heard:  # the gateway's own word; it is its connection
        if heard.get("state") != "synced":
            return clock.floor_ns(_utc_ns(heard.get("floor")))
        its_ns = _utc_ns((site.daemon or {}).get("time"))
        # A receiver tells it the time, and nobody the system.
        errs = its_ns is not None and abs(look.utc_ns - its_ns) > clock.SYSTEM_AGREES_S * 1e9
        return its_ns if errs else None
    plan = site.plan
    if look.synchronised or (plan is not None and plan.loaded.config.clock.trust == "system"):
        return None
    known = facts(site)
    known_ns = None if known is None else known.known_ns
    rtc = rtc_s(site.at("/sys/class/rtc"))
    if clock.rtc_witness(rtc, look, known_ns=known_ns) is not None:
        return None
    return clock.floor_ns(known_ns)


def _utc_ns(said: object) -> int | None:
    from agent.record import utc_ns

    with suppress(ValueError):
        return utc_ns(said) if isinstance(said, str) else None
    return None
