"""What stands here and is a project of its own."""

from __future__ import annotations

collect_ignore = ["third_party"]
