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
from pathlib import Path
from typing import cast

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from injection import Injector
from localpod import LocalPod

from meshbook import probes
from meshbook.clusters import Fleet


def measure(rate_per_s: float, seconds: float, timeout_s: float, *, frozen: bool) -> pd.DataFrame:
    """Return SENDS of a watch over a target that answers, or is frozen from the first request to the end."""
    with Injector() as target:
        asked = {"rate_per_s": rate_per_s, "timeout_s": timeout_s}
        with probes.watch(cast(Fleet, [LocalPod("pod")]), target.url, target.url, **asked) as watch:
            if frozen:
                target.frozen(seconds)
            else:
                time.sleep(seconds)
        stamps = watch.frame.groupby(["source", "path"])["time_error_ms"].quantile(0.99).round(2)
        sends = watch.sends.join(stamps.rename("stamp_p99_ms"), on=["source", "path"])
        return sends.assign(rate=rate_per_s, service="frozen" if frozen else "answers")


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
