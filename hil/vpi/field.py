"""The Debian package in the field: everything that must hold of it, on a virtual Pi of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .fieldcuts import STORIES, control_config, control_update, cut_at_steps
from .image import Image
from .installed import KILLS, THREADS, Installed, machine
from .site import Site
from .steps import Findings, take, without_panic

STEPS = ("hangs", "kills", "versions", "update", "config", "controls")
FEW = 3  # cuts of each story


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of it is done."""

    steps: Iterable[str] = STEPS
    threads: Iterable[str] = THREADS
    kills: int = KILLS
    cuts: int | None = None  # of each story; None: at each of its moments
    until: Mapping[str, str] | None = None  # by story, these only: the one step to cut at


def check_field(image: Image, say: Callable[[str], None], extent: Extent) -> Findings:
    """Install it, and do what is wanted. Raises MachineError at the first step that fails."""
    found = Findings()
    with machine(image) as pi, Site(pi) as site:
        field = Installed(pi, site, say)
        found.evidence = field.evidence

        def hangs() -> None:
            field.hangs(extent.threads)

        def kills() -> None:
            field.kills(extent.kills)

        def the_account_closes() -> None:
            field.evidence["account"] = field.closes()

        def update() -> None:
            _cut(field, "update", extent)

        def config() -> None:
            _cut(field, "configuration", extent)

        def controls() -> None:
            without_panic(lambda: control_update(field))
            without_panic(lambda: control_config(field))

        inside = {"hangs": hangs, "kills": kills, "versions": field.versions}
        cut = {"update": update, "config": config, "controls": controls}
        wanted = set(extent.steps)
        take([field.install], found, say)
        if wanted & inside.keys():
            field.returns()
            chosen = [step for name, step in inside.items() if name in wanted]
            take([*chosen, the_account_closes], found, say)
        take([step for name, step in cut.items() if name in wanted], found, say)
    return found


def _cut(field: Installed, kind: str, extent: Extent) -> None:
    for name, story in STORIES.items():
        if not name.endswith(kind) or (extent.until is not None and name not in extent.until):
            continue
        until = None if extent.until is None else extent.until[name]
        field.evidence[name] = cut_at_steps(field, story, extent.cuts, until=until)
