"""To import libraries and not what they bring along: 8 MB that a gateway never uses.

structlog looks for rich, which the tools for people use, to print colourful errors, and imports
asyncio for loggers that nobody here has. paho imports TLS, and urllib.request to look for a proxy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

LATER = ("asyncio", "ssl", "urllib.request")


class _Later(ModuleType):
    """Stands for a module until somebody wants something of it."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def without_extras() -> Iterator[None]:
    """Let rich be missing meanwhile, the rest wait for whoever uses it; what is loaded stays."""
    stand_ins: dict[str, Any] = {"rich": None} | {name: _Later(name) for name in LATER}
    stand_ins = {name: each for name, each in stand_ins.items() if name not in sys.modules}
    sys.modules.update(stand_ins)  # None is how an import is made to fail
    for name, each in stand_ins.items():
        package, _, last = name.rpartition(".")
        if package:  # by which it is asked for
            setattr(import_module(package), last, each)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
