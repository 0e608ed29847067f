"""How often stage 3 decides rightly what goes wrong in an outage: thousands of modelled ones, judged by its own claims.

A cell is what goes wrong, at random times. A pod of the sample is taken to bear 20 requests a second: what its queue
does to a whole outage is ``busy_service``'s model. With the notebook's defaults and with a file of parameters. How
shares are told, in stages 1 to 3, is ``shares``'s.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from busy_service import Failover, moment

from meshbook import analysis, experiment, probes, runs, tables
from meshbook.analysis import Capacity, ChangeRequest, ExpectedShares, TrialRecord
from meshbook.experiment import Limits, Results, Trial
from meshbook.verdict import worst

VERSIONS = {"cluster1": "v1", "cluster2": "v2"}
EXPECTED = {
    probes.OUTSIDE: ExpectedShares(
        shares=dict.fromkeys(VERSIONS, 0.5), why="each ready endpoint counts the same (1 in cluster1, 1 in cluster2)"
    )
}
SOURCES = (probes.OUTSIDE, "cluster1", "cluster2")
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PROMISED = 0.95
"""How often an outage is told as what it is."""
Rng = np.random.Generator
Hits = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Failing:
    """What stage 3 sends and how it judges: three sources, and a survivor of one pod."""

    max_failed_share: float
    rate_per_s: float = 3.0

    @property
    def outage_s(self) -> int:
        """As ``experiment.fit_load`` has it."""
        return max(16, math.ceil(analysis.fewest_to_pass(self.max_failed_share, wrong=2) / self.rate_per_s))

    @property
    def watched_s(self) -> int:
        """From the request until the middle of what is watched after pods that took 4 s to be ready."""
        return self.outage_s + 4 + 6


def failures(seconds: np.ndarray[Any, Any], rng: Rng) -> dict[str, tuple[str, Callable[[], Hits]]]:
    """Return by name what may go wrong, as which outcome it should be told, and which requests it hits.

    ``seconds`` has a row for each source.
    """
    sources, n = seconds.shape
    begin = rng.uniform(1, seconds.max() - 6)
    burst = (seconds >= begin) & (seconds < begin + 5)
    one = np.arange(sources)[:, None] == 0

    def some(count: int) -> Hits:
        hits = np.zeros((sources, n), dtype=bool)
        hits[0, rng.choice(n, count, replace=False)] = True
        return hits

    def share(value: float) -> Hits:
        return rng.random((sources, n)) < value

    return {
        "none": ("pass", lambda: some(0)),
        "one 503": ("pass", lambda: some(1)),
        "two 503s at one source": ("pass", lambda: some(2)),
        "2 % evenly": ("", lambda: share(0.02)),
        "8 % evenly": ("", lambda: share(0.08)),
        "20 % at one source": ("fail", lambda: share(0.2) & one),
        "5 s at 50 % at all": ("fail", lambda: share(0.5) & burst),
        "5 s at 50 % at one source": ("", lambda: share(0.5) & burst & one),
        "5 s at 20 % at all": ("", lambda: share(0.2) & burst),
    }


def failed_cells(stage: Failing, watched_s: float, number: int, rng: Rng) -> Iterator[dict[str, Any]]:
    """Yield how often ``analysis.few_fail`` decides what, by what goes wrong."""
    n = math.floor(watched_s * stage.rate_per_s)
    begin = datetime(2026, 1, 2, 12, tzinfo=UTC)
    seconds = (np.arange(n) + rng.random((len(SOURCES), 1))) / stage.rate_per_s
    rows = pd.concat(
        [
            tables.from_rows(
                ({"source": source, "time": begin + timedelta(seconds=float(at)), "error": ""} for at in each),
                tables.ANSWERS,
            )
            for source, each in zip(SOURCES, seconds, strict=True)
        ],
        ignore_index=True,
    )
    end = begin + timedelta(seconds=watched_s + 1)
    for name, (wanted, _) in failures(seconds, rng).items():
        found: Counter[str] = Counter()
        for _ in range(number):
            hits = failures(seconds, rng)[name][1]().ravel()
            some = rows.assign(error=pd.Series(np.where(hits, "http_503", ""), dtype="string"))
            found[analysis.few_fail(some, begin, end, max_failed_share=stage.max_failed_share).outcome] += 1
        yield {"what": name, "wanted": wanted, **_rates(found, number)}


NOT_FAIL = "not fail"
_BEGIN, _END, _READY, _WATCHED = 12.0, 57.0, 62.0, 74.0
_CALM: dict[str, Any] = {"per_s": 2.8, "answer_s": 0.05, "seconds": _WATCHED, "down": (_BEGIN, _READY)}
_AT = (30.0, 35.0)
WHOLE_OUTAGES: dict[str, tuple[str, Failover]] = {
    "none": ("pass", Failover(**_CALM)),
    "survivor overloaded from the start, 503s": (
        NOT_FAIL,
        Failover(**_CALM, slowed=(_BEGIN, _READY), times=3, loses_readiness=True),
    ),
    "survivor slowed for 10 s, readiness lost, 503s": (
        NOT_FAIL,
        Failover(**_CALM, slowed=(_AT[0], _AT[0] + 10), times=6, loses_readiness=True),
    ),
    "survivor slowed for 10 s, refuses at 1 s, 503s": (
        NOT_FAIL,
        Failover(**_CALM, slowed=(_AT[0], _AT[0] + 10), times=4, refuses_after_s=1.0),
    ),
    "machine stands still for 5 s": (NOT_FAIL, Failover(**_CALM, still=_AT)),
    "machine slowed to a tenth for 5 s": (NOT_FAIL, Failover(**_CALM, slowed=_AT, times=10)),
    "503 for 5 s": ("fail", Failover(**_CALM, failing=_AT, share=1.0)),
    "503 for 5 s, a half": ("fail", Failover(**_CALM, failing=_AT, share=0.5)),
    "503 for 5 s, at 80 % of what it bears": ("fail", Failover(**_CALM | {"per_s": 5.3}, failing=_AT, share=1.0)),
    "survivor frozen for 5 s": ("fail", Failover(**_CALM, frozen=_AT)),
    "a source cut off for 5 s": ("fail", Failover(**_CALM, silent=_AT)),
    "failover takes 3 s, a half, for 15 s": ("fail", Failover(**_CALM, held=(_BEGIN, _BEGIN + 15), held_s=3)),
    "failover takes 3 s, all, for 15 s": ("", Failover(**_CALM, held=(_BEGIN, _BEGIN + 15), held_s=3, share=1.0)),
    "failover takes 10 s, a half, for 45 s": ("fail", Failover(**_CALM, held=(_BEGIN, _END), held_s=10)),
}
"""By name: how an outage should be told, and what happens in it."""


def outage_cells(number: int) -> Iterator[dict[str, Any]]:
    """Yield how often all claims on an outage decide what, and how often they say that the load explains it."""
    for name, (wanted, happens) in WHOLE_OUTAGES.items():
        found: Counter[str] = Counter()
        for seed in range(number):
            claims = experiment.claims(Results([_trial(happens, seed)]), [], Limits())
            on_it = [one for one in claims if not one.claim.endswith("each outage")]
            found[worst(one.outcome for one in on_it)] += 1
            found["load"] += any("overloaded" in one.reason for one in on_it)
        yield {"what": name, "wanted": wanted, **_rates(found, number), "load": 100 * found["load"] / number}


def _trial(happens: Failover, seed: int) -> Trial:
    rows, changes = happens.watched(seed)
    asked, restored = moment(_BEGIN), moment(_END)
    record = TrialRecord(
        mode="scale-to-zero",
        context="cluster1",
        trial=1,
        outage=ChangeRequest(asked=asked, accepted=asked),
        restore=ChangeRequest(asked=restored, accepted=restored),
        answers=tables.from_rows(rows, tables.ANSWERS),
        changes=changes,
        contexts=list(VERSIONS),
        stopped="cluster1",
    )
    bears = Capacity(per_s=20, low_per_s=19, high_per_s=21, n=50, pods=1, calm_ms=50, busy_ms=200)
    return Trial(
        record=record,
        phases=tables.empty(tables.PHASES),
        attribution=tables.empty(tables.ATTRIBUTION),
        loop=tables.empty(tables.ANSWERS),
        afterwards=tables.empty(tables.ANSWERS),
        versions=VERSIONS,
        test=analysis.split_test(EXPECTED, "cluster1", 0.25),
        down=moment(_BEGIN + 0.1),
        ready_again=moment(_READY),
        bears=bears,
    )


def _rates(found: Counter[str], number: int) -> dict[str, float]:
    return {name: 100 * found[name] / number for name in ("pass", "fail", "inconclusive")}


def failover(file: Path | None, number: int, rng: Rng) -> int:
    """Print the cells of failures; return how many rates are surely below what is promised."""
    (values,) = (step.values() for step in runs.plan_run(NOTEBOOKS, ["3"], file=file).steps)
    stage = Failing(max_failed_share=values["max_outage_failed_share"])
    parts = {
        f"failures in {stage.watched_s} s at {stage.rate_per_s:g}/s": failed_cells(stage, stage.watched_s, number, rng),
        "failures in 300 s": failed_cells(stage, 300, number, rng),
    }
    return sum(_told(f"{file.stem if file else 'defaults'}: {part}", cells, number) for part, cells in parts.items())


def _told(what: str, cells: Iterator[dict[str, Any]], number: int) -> int:
    """Print some cells; return how many rates are surely below what is promised."""
    rows, unkept = list(cells), 0
    for row in rows:
        wanted = row | {"": 100, NOT_FAIL: 100 - row["fail"]}
        kept = round(wanted[row["wanted"]] * number / 100)
        unkept += analysis.share_interval(kept, number)[1] < PROMISED
    table = pd.DataFrame(rows).round(1).to_string(index=False)
    sys.stdout.write(f"stage 3, {what}, % of {number} runs\n{table}\n\n")
    return unkept


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--outages", type=int, default=100, help="runs of whole outages: a quarter of a second each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", type=Path, nargs="*", default=[NOTEBOOKS / "params" / "article.yaml"])
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    unkept = sum(failover(file, given.runs, rng) for file in (None, *given.file))
    if given.outages:
        unkept += _told("whole outages at 2.8/s", outage_cells(given.outages), given.outages)
    sys.stdout.write(f"{unkept} rates are surely below the {100 * PROMISED:g} % that was promised for them\n")
    return 1 if unkept else 0


if __name__ == "__main__":
    sys.exit(main())
