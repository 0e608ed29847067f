"""How true the outage windows are: outages of known length, frozen and refused, against what the watch reports.

Two targets on loopback, one frozen and one refusing, are watched at the same time, each from here and as from a pod.
Prints one line for each kind, length and source: how many of how many outages lay within the reported range, how far
the worst lay outside, and how wide the ranges were; then how many windows tell of a time in which nothing was down.
``--times 20`` takes a quarter of an hour; ``--times 0 --calm 60`` has no outage at all.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from injection import Injector
from localpod import LocalPod
from open_loop import sends

from meshbook import probes
from meshbook.analysis import Fault, compare_with_truth, streams
from meshbook.clusters import Fleet

LENGTHS_S = (0.05, 0.2, 1.0, 3.0, 10.0)
_CALM_S = 1.5
"""Seconds between two outages: longer than a request's time-out."""


def measure(kind: str, lengths_s: list[float], rate_per_s: float, calm_s: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give one target an outage of each of ``lengths_s`` and return CALIBRATION, and the ``sends`` of the watch."""
    faults: list[Fault] = []
    with Injector() as target:
        pods = cast(Fleet, [LocalPod("pod")])
        inject = target.frozen if kind == "frozen" else target.refused
        with probes.watch(pods, target.url, target.url, rate_per_s=rate_per_s) as watch:
            time.sleep(calm_s)
            for length_s in lengths_s:
                time.sleep(_CALM_S + random.random())
                faults.append(inject(length_s))
            time.sleep(_CALM_S)
    frame = watch.frame
    return compare_with_truth(frame, faults), sends(frame).assign(kind=kind, false=false_windows(frame, faults))


def false_windows(frame: pd.DataFrame, faults: list[Fault]) -> int:
    """Return how many windows of all sources lie where nothing was down."""
    spans = [(fault.start.timestamp(), fault.end.timestamp()) for fault in faults]
    windows = [
        (window["start"] - stream.clock_error, window["end"] + stream.clock_error)
        for stream in streams(frame)
        for window in stream.windows.to_dict("records")
    ]
    return sum(not any(begin <= end and start <= stop for start, end in spans) for begin, stop in windows)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each fault and source."""
    named: dict[str, Any] = {
        "n": ("within", "size"),
        "within": ("within", "sum"),
        "seen": ("seen", "sum"),
        "worst off ms": ("off_ms", "max"),
        "width median ms": ("width_ms", "median"),
        "width max ms": ("width_ms", "max"),
    }
    found = results.groupby(["kind", "length_s", "source"], sort=True).agg(**named)
    return found.reset_index().rename(columns={"length_s": "true s"})


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=2, help="outages of each kind and length")
    parser.add_argument("--rate", type=float, default=10.0, help="requests per second and source")
    parser.add_argument("--calm", type=float, default=3.0, help="seconds before the first outage")
    parser.add_argument("--kinds", nargs="+", choices=["frozen", "refused"], default=["frozen", "refused"])
    parser.add_argument("--lengths", nargs="+", type=float, default=list(LENGTHS_S), metavar="S")
    given = parser.parse_args()
    lengths = [length for length in given.lengths for _ in range(given.times)]
    random.shuffle(lengths)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda kind: measure(kind, lengths, given.rate, given.calm), given.kinds))
    results = pd.concat([calibration for calibration, _ in found], ignore_index=True)
    results[["kind", "length_s"]] = results["fault"].str.extract(r"(\w+) ([\d.]+) s")
    results["length_s"] = results["length_s"].astype(float)
    table, sent = summary(results), pd.concat([each for _, each in found], ignore_index=True)
    limit = 2000 / given.rate + 50
    wide, within = int((results["width_ms"] > limit).sum()), int(results["within"].sum())
    columns = ["kind", "source", "scheduled", "sent", "dropped", "lost", "late_p99_ms", "late_max_ms"]
    false = sent.groupby("kind")["false"].first().sum()
    lines = (
        table.to_string(index=False, float_format=lambda value: f"{value:g}"),
        f"windows where nothing was down: {false} in {sent['sent'].sum()} requests",
        f"within: {within} of {len(results)}; wider than two intervals + 50 ms ({limit:g} ms): {wide}",
        sent[columns].to_string(index=False),
    )
    sys.stdout.write("\n\n".join(lines) + "\n")
    outside = results[~results["within"].astype(bool)]
    if not outside.empty:
        sys.stdout.write("\n" + outside.to_string(index=False) + "\n")
    return 0 if outside.empty else 1


if __name__ == "__main__":
    sys.exit(main())
