"""The referee of the outage windows: tens of thousands of modelled outages, and every word that is not true of them.

``service_model`` knows the truth; this holds ``meshbook.analysis`` against it. Held true in every world:

- every time for which the whole service was down lies within what a window, or the time between two, leaves possible;
- no window claims more than the time from the first begin to the last end of what it shows (two outages without a good
  answer between them are one to any caller), or any time at all where nothing was wrong;
- its edges lie around the true ones.

``--cases 10000`` takes two minutes. ``--clean`` asks for the widths: one outage each, and a sender without flaws.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from service_model import EPOCH, KINDS, Trouble, World, rows, world

from meshbook import tables
from meshbook.analysis import Stream, streams

_BATCH = 100
_ROUNDING_S = 2e-6


@dataclass(frozen=True, kw_only=True)
class Untruth:
    """One claim that is wrong, by so many seconds."""

    world: World
    claim: str
    off: float

    def __str__(self) -> str:
        kinds = ", ".join(f"{each.kind} {each.start:.4f}-{each.end:.4f}" for each in self.world.troubles) or "nothing"
        return f"seed {self.world.seed}: {self.claim} by {self.off * 1000:.1f} ms ({kinds})"


def untruths(one: World, stream: Stream) -> Iterator[Untruth]:
    """Yield what ``windows`` says wrongly about one world."""
    for off, claim in (*_too_short(one, stream), *_too_much(one, stream)):
        if off > _ROUNDING_S:
            yield Untruth(world=one, claim=claim, off=off)


def _too_short(one: World, stream: Stream) -> Iterator[tuple[float, str]]:
    """Yield by how much each outage sticks out of all that is said to be possible."""
    shown = [stream.gaps.iloc[window["first"] : window["last"] + 1] for window in stream.windows.to_dict("records")]
    possible = pd.concat([stream.hidden, *shown])
    for trouble in one.troubles:
        if trouble.is_whole:
            start, end = EPOCH + trouble.start, EPOCH + trouble.end
            slack = stream.clock_error
            off = np.maximum(possible["start"] - slack - start, end - slack - possible["end"])
            yield off.min(), "an outage does not fit"
            yield trouble.length - (possible["end"] - possible["start"]).max(), "an outage was longer than possible"


def _too_much(one: World, stream: Stream) -> Iterator[tuple[float, str]]:
    slack = stream.clock_error
    for window in stream.windows.to_dict("records"):
        if not shown_by(one, stream, window, slack):
            yield window["low_s"], "a window claims time, and nothing was down"
            continue
        shown = shown_by(one, stream, window, slack + stream.prompt)
        first, last = EPOCH + shown[0].start, EPOCH + max(each.end for each in shown)
        yield window["low_s"] - (last - first), "a window claims too much"
        yield first - slack - window["down_by"], "first_bad lies before the begin"
        yield window["down_until"] - slack - last, "last_bad lies after the end"


def shown_by(one: World, stream: Stream, window: Mapping[Hashable, Any], slack: float) -> list[Trouble]:
    """Return the troubles that may be what ``window`` shows, in their order; ``slack`` is added on both sides.

    A request that was on its way when one ended may fail of the next: what lies closer than an answer takes is one.
    """
    gaps = stream.gaps.iloc[window["first"] : window["last"] + 1]
    first, last = gaps["start"].min() - slack, gaps["end"].max() + slack
    return [each for each in one.troubles if EPOCH + each.start <= last and EPOCH + each.end >= first]


def measured(worlds: Iterable[World]) -> Iterator[tuple[World, Stream]]:
    """Yield each of ``worlds`` with what its sources told, by way of a frame of ANSWERS."""
    known = {str(one.seed): one for one in worlds}
    told = [row for one in known.values() for row in rows(one)]
    for stream in streams(tables.from_rows(told, tables.ANSWERS)):
        yield known[stream.source], stream


def widths(one: World, stream: Stream) -> Iterator[dict[str, object]]:
    """Yield how wide the range of a world's only outage is, where one window shows it."""
    (trouble,) = one.troubles
    found = [window for window in stream.windows.to_dict("records") if shown_by(one, stream, window, 0.0)]
    if len(found) == 1 and found[0]["high_s"] < one.seconds:
        width = found[0]["high_s"] - found[0]["low_s"]
        pace = next(pace for pace in (5, 20, 70, 1000) if one.rate <= pace)
        # no caller can say more of a request than its own answer takes
        slow = max(side.usual for side in one.sides) > 0.01
        yield {
            "kind": trouble.kind,
            "rate up to": pace,
            "service": "slow" if slow else "quick",
            "intervals over": (width - 0.05) / one.interval,
            "extra ms": 1000 * (width - 2 * one.interval),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=1, help="seed of the first case")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--clean", action="store_true", help="one outage each, a sender without flaws; prints widths")
    given = parser.parse_args()
    wrong: list[Untruth] = []
    wide: list[dict[str, object]] = []
    shown = 0
    for first in range(given.first, given.first + given.cases, _BATCH):
        batch = [world(seed, given.kinds, clean=given.clean) for seed in range(first, first + _BATCH)]
        for one, stream in measured(batch):
            shown += len(stream.windows)
            wrong += untruths(one, stream)
            wide += widths(one, stream) if given.clean else ()
    sys.stdout.write("".join(f"{each}\n" for each in sorted(wrong, key=lambda each: -each.off)[:40]))
    if wide:
        columns = ["kind", "rate up to", "service"]
        table = pd.DataFrame(wide).groupby(columns)["extra ms"].describe(percentiles=[0.5, 0.95])
        sys.stdout.write(table[["count", "50%", "95%", "max"]].round(1).to_string() + "\n")
    claims = pd.Series([each.claim for each in wrong], dtype="string").value_counts()
    sys.stdout.write(f"{given.cases} cases, {shown} windows, {len(wrong)} untruths\n{claims.to_string()}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
