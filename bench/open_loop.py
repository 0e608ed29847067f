"""Whether requests leave on schedule: the watch at several rates, on a service that answers and on one that is frozen.

Prints for each rate, state and source how many requests left, how late, how many were dropped or lost, and how far off
the time of sending is in 99 of 100 rows at most. A closed loop would send one request per time-out to the frozen
service; an open one sends them all, up to its bound of requests in flight (``--seconds 25 --timeout 60 --rates 200``
reaches it).
"""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from injection import Injector
from localpod import LocalPod

from meshbook import probes, tables
from meshbook.clusters import Fleet


def sends(frame: pd.DataFrame) -> pd.DataFrame:
    """Return for each source of ANSWERS how many requests were to leave and did, how late, and how well stamped."""
    rows = frame.assign(
        left=frame["time"].notna(),
        dropped=frame["error"] == tables.DROPPED,
        lost=frame["error"].isin([tables.LOST, tables.GARBLED]),
    )
    counts = {"scheduled": ("seq", "size"), "sent": ("left", "sum"), "dropped": ("dropped", "sum")}
    p99 = partial(pd.Series.quantile, q=0.99)
    columns: dict[str, Any] = {
        **counts,
        "lost": ("lost", "sum"),
        "late_median_ms": ("late_ms", "median"),
        "late_p99_ms": ("late_ms", p99),
        "late_max_ms": ("late_ms", "max"),
        "stamp_p99_ms": ("time_error_ms", p99),
    }
    return rows.groupby(["source", "path"], sort=False).agg(**columns).round(2).reset_index()


def measure(rate_per_s: float, seconds: float, timeout_s: float, *, frozen: bool) -> pd.DataFrame:
    """Return ``sends`` of a watch over a target that answers, or is frozen from the first request to the end."""
    with Injector() as target:
        asked = {"rate_per_s": rate_per_s, "timeout_s": timeout_s}
        with probes.watch(cast(Fleet, [LocalPod("pod")]), target.url, target.url, **asked) as watch:
            if frozen:
                target.frozen(seconds)
            else:
                time.sleep(seconds)
        return sends(watch.frame).assign(rate=rate_per_s, service="frozen" if frozen else "answers")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each measurement")
    parser.add_argument("--timeout", type=float, default=1.0, help="seconds that a request has")
    parser.add_argument("--rates", nargs="+", type=float, default=[10, 50, 100, 200], metavar="R")
    given = parser.parse_args()
    asked = (given.seconds, given.timeout)
    found = [measure(rate, *asked, frozen=frozen) for rate in given.rates for frozen in (False, True)]
    table = pd.concat(found, ignore_index=True)
    columns = ["rate", "service", *(name for name in table.columns if name not in ("rate", "service", "path"))]
    sys.stdout.write(table[columns].to_string(index=False) + "\n")


if __name__ == "__main__":
    main()
