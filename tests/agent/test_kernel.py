"""What Linux says of the gateway itself, as far as it is told on."""

from __future__ import annotations

from pathlib import Path

from agent import kernel


def test_memory_is_told_in_whole_mib_so_that_no_page_tells_who_passed() -> None:
    told = kernel.rss_bytes()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    assert told % 2**20 == 0
    assert told > 0
    assert abs(told - pages * kernel.PAGE_BYTES) < 8 * 2**20
