"""The canary of the privacy promise: known people pass, then all that is left of them is searched.

    python -m hil bench canary                   # 10,000 crossings: a minute
    python -m hil bench canary --leak log_time   # only a gateway with that leak; exit 1 is right

`yukimi run` in processes of its own, debug log and everything else on: eight counters, two beams,
two lidars, two thermal arrays and a radar that count people; road, snow, air, supply, board and
position beside them; alerts on crowds; windows of a second; somebody who asks for its status. The
counters play a pattern of which each crossing is known (hil/canary/pattern.py); the others look at
simulated crowds, and what they counted and what they saw is overheard in the process's memory
(hil/canary/life.py). The daemon is killed four times, in the middle of an outage among others, and
stopped once, after which its spool is damaged (hil/canary/site.py).

Then every byte of its state directory (free pages, the WAL with its dead frames, whatever file is
there), working directory and temporary files, as copied after each end and every two seconds, all
it logged or answered and every byte between it and the broker are searched, also inside of what is
deflated, hexadecimal, base64 or escaped:

- times of crossings and frames must be nowhere. What is searched, and why a chance hit has a
  probability below one in a million: hil/canary/search.py;
- a released figure may equal the true one as often as the noise is 0, no more often and no more
  seldom, but for a chance of one in a million on each side; and a window's figure never changes;
- no other number, and no number or size of messages, lines or rows, may follow the true counts:
  hil/canary/links.py.

What is not seen: a time that is told to the second, as every second has its crossing, or since some
beginning of its own; the length of what is deflated (its text's is); when something leaves (`bench
privacy` looks at that); and what only several numbers tell together.

Gateways with a leak, all five in one, must be found out, each by its own trace: a debug line with a
crossing's time, a raw count in the health message, a frame in a file, the true count in a column of
the spool, noise that is always zero.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from agent.privacy.sampler import noise_sd
from config.model import FlowTable

from ..canary.counts import Reader
from ..canary.life import LEAKS
from ..canary.links import bound
from ..canary.search import ALPHA, Instant, Pieces, Times, unfold
from ..canary.site import Evidence, Site
from ..canary.truth import Truth, figures, strangers
from .figures import Figure, document, table

WRONG = 1
EPSILON = Fraction(FlowTable().epsilon)
CROSSINGS, SPOILED_CROSSINGS = 10_000, 8000
SPOILED_LIVES = 3  # by chance, or on a loaded machine, one does not show every leak
PIXELS = 16  # bytes of a picture that are a piece of their own
FRAME_BYTES = 9  # the shortest
SEPARATOR = b"\n" * 16

Say = Callable[[str], None]

# By what each leak must be found: the kind of the finding, and words of it.
TRACES: Mapping[str, tuple[str, str]] = {
    "log_time": ("time", "log decimal"),
    "health_count": ("count", "health events"),
    "frame_file": ("frame", "last-frame"),
    "spool_count": ("count", "table record, load"),
    "no_noise": ("released", "as often"),
}


@dataclass(slots=True)
class Verdict:
    """What was searched, and what was found: kind -> what and where."""

    searched: dict[str, float] = field(default_factory=dict)
    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def shows(self, leak: str) -> bool:
        """Tell whether a leak was found by its own trace."""
        kind, words = TRACES[leak]
        return any(words in each for each in self.found[kind])

    def lines(self) -> list[str]:
        """Say what was found."""
        return [f"{kind}: {each}" for kind, some in self.found.items() for each in some]


def examine(evidence: Evidence) -> Verdict:
    """Search everything that a gateway left."""
    verdict = Verdict(
        {
            "crossings": len(evidence.crossed),
            "strange_crossings": strangers(evidence),
            "kills": evidence.kills,
            "stops": evidence.stops,
            "cores": len(evidence.cores),
            "answers": len(evidence.answers),
            "set_aside": evidence.set_aside,
        }
    )
    _search_bytes(evidence, verdict)
    _search_numbers(evidence, verdict)
    return verdict


def _search_bytes(evidence: Evidence, verdict: Verdict) -> None:
    pieces = Pieces(_pieces(evidence))
    times = Times(
        {
            "boot": [each.boot_ns for each in evidence.crossed],
            "UTC": [each.utc_ns for each in evidence.crossed],
        }
    )
    written: dict[str, set[Instant]] = defaultdict(set)
    seen: set[bytes] = set()
    streams = size = 0
    for where, content in evidence.left.items():
        some = list(unfold(content, seen))
        streams += len(some)
        size += len(content)
        together = SEPARATOR.join(some)
        if count := len(pieces.find(together)):
            verdict.found["frame"].append(f"{count} pieces in {where}")
        for form, instants in times.written(together).items():
            written[f"{where.split()[0]} {form}"] |= instants
    excesses = times.excesses(written)
    for excess in excesses:
        if excess.chance < ALPHA / len(excesses):
            verdict.found["time"].append(f"{excess.form}: {excess.hits} of {excess.of}")
    verdict.searched |= {
        "bytes": size,
        "streams": streams,
        "frame_pieces": pieces.count,
        "instants": sum(map(len, written.values())),
    }


def _pieces(evidence: Evidence) -> set[bytes]:
    """Return what frames are looked for by: whole where they are short, pictures row by row."""
    rows = {
        picture[at : at + PIXELS]
        for picture in evidence.i2c
        for at in range(0, len(picture) - PIXELS + 1, PIXELS)
    }
    said = set()
    for together in evidence.serial:
        said |= set(_frames(together))
    return rows | said


def _frames(said: bytes) -> list[bytes]:
    """Cut what a radar or a lidar said into frames; what is none is left out."""
    found = []
    for header, length in ((b"\xaa\xff\x03\x00", 30), (b"YY", FRAME_BYTES)):
        at = said.find(header)
        while at >= 0 and at + length <= len(said):
            found.append(said[at : at + length])
            at = said.find(header, at + length)
    return found


def _search_numbers(evidence: Evidence, verdict: Verdict) -> None:
    truth = Truth.of(evidence)
    reader = Reader(truth)
    reader.messages(evidence.messages)
    reader.answers(evidence.answers)
    reader.log(evidence.left["log"].decode())
    for folders, may_be_torn in ((evidence.copies, False), (evidence.glimpses, True)):
        for folder in folders:
            if (folder / "spool.db").exists():
                reader.spool(folder / "spool.db", may_be_torn=may_be_torn)
    links = reader.numbers.links(truth)
    most = bound(links)
    verdict.found["count"] += [str(link) for link in links if link.z > most]
    seen = figures(reader.numbers.released, truth)
    chance = seen.chance(float(EPSILON))
    if chance < ALPHA:
        often = f"{seen.equal()} of {len(seen.errors)} times"
        verdict.found["released"].append(f"the true count, {often}: not as often as by chance")
    if reader.numbers.twice:
        verdict.found["released"].append(f"{len(reader.numbers.twice)} windows with two noises")
    verdict.searched |= {
        "windows": len(seen.errors),
        "equal_share": seen.equal() / len(seen.errors),
        "noise_sd_ratio": seen.sd() / noise_sd(EPSILON),
        "numbers": len(links),
        "packs": reader.numbers.packs,
    }


# The bench


def rows(crossings: int) -> tuple[Figure, ...]:
    """Return the figures and their targets."""
    return (
        Figure("crossings", "heard in the process's memory", crossings, True),
        # An edge's time is told by two clocks, read one after the other: a process that is put
        # aside between the two tells all edges of that look by some milliseconds late.
        Figure("strange_crossings", "of the counters, and not in the pattern", crossings // 100),
        Figure("kills", "SIGKILL"),
        Figure("stops", "SIGTERM"),
        Figure("cores", "core dumps", 0),
        Figure("answers", "over the control socket", 10, True),
        Figure("set_aside", "copies of a damaged spool", 1, True),
        Figure("bytes", "searched, each different page once"),
        Figure("streams", "in which they were searched, unfolded ones included"),
        Figure("packs", "rows of deflated records, seen in copies", 1, True),
        Figure("frame_pieces", "looked for"),
        Figure("instants", "found that are in the span of the crossings"),
        Figure("numbers", "held against the true counts"),
        Figure("windows", "whose released figures were held against the true ones"),
        Figure("equal_share", "of them equal; 0.124 by chance"),
        Figure(
            "noise_sd_ratio", "noise seen, by the law's: above, the bench misses the truth", 1.3
        ),
        *(Figure(f"found_{kind}", "what must be nowhere", 0) for kind in KINDS),
        *(Figure(f"leak_{name}", "a leak that is found", 1, True) for name in LEAKS),
    )


KINDS = ("time", "frame", "count", "released")


def watch(folder: Path, crossings: int, seed: int, leaks: Sequence[str] = ()) -> Evidence:
    """Let a gateway live, with leaks only briefly; return what it left. Raises CanaryError."""
    with Site(folder, seed=seed, leaks=leaks) as site:
        return site.live_briefly(crossings) if leaks else site.live_through(crossings)


def _looked_at(folder: Path, crossings: int, seed: int, leaks: Sequence[str] = ()) -> Verdict:
    return examine(watch(folder, crossings, seed, leaks))


def _shown(folder: Path, seed: int, say: Say) -> set[str]:
    """Return which leaks a gateway that has them all shows, in some lives of it."""
    shown: set[str] = set()
    for life in range(SPOILED_LIVES):
        hidden = [leak for leak in LEAKS if leak not in shown]
        if not hidden:
            break
        verdict = _looked_at(folder / str(life), SPOILED_CROSSINGS, seed + life, hidden)
        for line in verdict.lines():
            say(f"with leaks: {line}")
        shown |= {leak for leak in hidden if verdict.shows(leak)}
    return shown


def measure(folder: Path, crossings: int, seed: int, say: Say = lambda _: None) -> dict[str, float]:
    """Return every figure; the honest and the spoiled gateway live at the same time."""
    with ThreadPoolExecutor(2) as both:
        honest = both.submit(_looked_at, folder / "honest", crossings, seed)
        spoiled = both.submit(_shown, folder / "spoiled", seed + 1, say)
    verdict, shown = honest.result(), spoiled.result()
    for line in verdict.lines():
        say(f"FOUND {line}")
    return (
        verdict.searched
        | {f"found_{kind}": len(verdict.found[kind]) for kind in KINDS}
        | {f"leak_{name}": name in shown for name in LEAKS}
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the bench's options."""
    parser.add_argument("--json", action="store_true", help="print JSON on stdout, nothing else")
    parser.add_argument("--crossings", type=int, default=CROSSINGS, help="how many, at least")
    parser.add_argument("--seed", type=int, default=1, help="of the pattern")
    parser.add_argument("--leak", choices=sorted(LEAKS), help="search a gateway with this leak")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; 1 if anything is found, or a leak is not."""
    with tempfile.TemporaryDirectory(prefix="yukimi-canary-") as name:
        folder = Path(name)
        if arguments.leak:
            leaks = [arguments.leak]
            verdict = _looked_at(folder / "spoiled", SPOILED_CROSSINGS, arguments.seed, leaks)
            print("\n".join(verdict.lines()) or "nothing found")
            return WRONG if verdict.lines() else 0
        values = measure(
            folder,
            arguments.crossings,
            arguments.seed,
            lambda line: print(line, file=sys.stderr),
        )
    judged = rows(arguments.crossings)
    print(document(values) if arguments.json else "\n".join(table(judged, values)))
    return 0 if all(row.holds(values[row.key]) for row in judged) else WRONG
