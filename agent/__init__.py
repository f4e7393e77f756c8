"""The gateway: from a sensor's readings to records that the city acknowledged."""

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when it is asked for: that takes longer than a tool takes to start."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version("yukimi")
    except PackageNotFoundError:  # run from a tree that was never installed
        found = "0"
    globals()[name] = found
    return found
