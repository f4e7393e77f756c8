"""Every driver that has an emulation, through the same battery."""

from __future__ import annotations

from hil.conformance.battery import *  # noqa: F403
