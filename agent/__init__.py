"""The gateway: from a sensor's readings to records that the city acknowledged."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("yukimi")
except PackageNotFoundError:  # run from a tree that was never installed
    __version__ = "0"
