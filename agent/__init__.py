"""The gateway: from a sensor's readings to records that the city acknowledged."""

from __future__ import annotations

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when somebody wants it: it takes as long as all else of `--help`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("yukimi")
    except PackageNotFoundError:  # run from a tree that was never installed
        return "0"
