"""How often stages 1 and 2 decide rightly: thousands of modelled runs of what the notebooks send, by their own claims.

A cell is a true share of the last cluster, and a balancer: ``binomial`` picks at random, ``round robin`` takes turns,
and ``8 workers`` take turns each, of which a connection meets any. All sources have that share, the mesh is configured
for half. Runs with the notebooks' defaults and with a file of parameters; the outcome is the worst of all claims.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from meshbook import analysis, probes, runs, tables
from meshbook.analysis import ExpectedShares
from meshbook.verdict import worst

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
VERSIONS = {"cluster1": "v1", "cluster2": "v2"}
LAST = "cluster2"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PROMISED = 0.95
"""How often a mesh as configured passes, and one that is off by twice the tolerance fails."""
_WORKERS = 8
Rng = np.random.Generator
Hits = np.ndarray[Any, np.dtype[np.bool_]]


def binomial(rng: Rng, share: float, n: int) -> Hits:
    return rng.random(n) < share


def round_robin(rng: Rng, share: float, n: int) -> Hits:
    """Take turns by weight: of any n in a row as near to the share as whole numbers allow."""
    turns = np.floor(rng.random() + share * np.arange(n + 1) + 1e-9)
    return np.diff(turns) > 0


def workers(rng: Rng, share: float, n: int) -> Hits:
    """Give each request to any of several workers, each of which takes turns."""
    whose, hits = rng.integers(_WORKERS, size=n), np.zeros(n, dtype=bool)
    for worker in range(_WORKERS):
        own = whose == worker
        hits[own] = round_robin(rng, share, int(own.sum()))
    return hits


BALANCERS: dict[str, Callable[[Rng, float, int], Hits]] = {
    "binomial": binomial,
    "round robin": round_robin,
    "8 workers": workers,
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one stage sends and how it judges, as its notebook's parameters say."""

    number: int
    sources: tuple[str, ...]
    loop: int
    requests: int
    tolerance: float
    max_failed_share: float

    @property
    def expected(self) -> dict[str, ExpectedShares]:
        even = ExpectedShares(shares=dict.fromkeys(VERSIONS, 0.5), why="1 of 2 ready endpoints")
        return dict.fromkeys(self.sources, even)

    @property
    def sent(self) -> int:
        size = analysis.sample_size(
            self.expected,
            LAST,
            self.tolerance,
            max_failed_share=self.max_failed_share,
            requests=self.requests,
        )
        return max(self.loop, size.requests)


@cache
def judged(stage: Stage, n: int, counts: tuple[int, ...]) -> str:
    """Return the worst outcome of the stage's claims where ``counts`` of each source's ``n`` answers are the last's."""
    answers = pd.concat([_good(source, n, k) for source, k in zip(stage.sources, counts, strict=True)])
    verdicts = (
        analysis.answers_as_expected(answers, VERSIONS, stage.expected),
        analysis.split_as_expected(answers, LAST, stage.expected, stage.tolerance),
        analysis.all_answered(answers, stage.max_failed_share),
    )
    return worst(verdict.outcome for verdict in verdicts)


@cache
def _good(source: str, n: int, k: int) -> pd.DataFrame:
    names = [LAST] * k + ["cluster1"] * (n - k)
    rows = ({"source": source, "cluster": name, "version": VERSIONS[name], "error": ""} for name in names)
    return tables.from_rows(rows, tables.ANSWERS)


def stages(file: Path | None) -> Iterator[Stage]:
    """Yield both stages with the parameters that a run with ``file`` has."""
    mesh, vip = (step.values() for step in runs.plan_run(NOTEBOOKS, ["1", "2"], file=file).steps)
    yield _stage(1, ("cluster1", "cluster2"), mesh, "mesh")
    yield _stage(2, (probes.OUTSIDE,), vip, "vip")


def _stage(number: int, sources: tuple[str, ...], values: dict[str, Any], name: str) -> Stage:
    return Stage(
        number=number,
        sources=sources,
        loop=values[f"{name}_requests"],
        requests=values["requests"],
        tolerance=values["tolerance"],
        max_failed_share=values[f"max_{name}_failed_share"],
    )


def cell(stage: Stage, balancer: str, share: float, number: int, rng: Rng) -> Counter[str]:
    """Return how often each outcome came of ``number`` runs."""
    n = stage.sent
    outcomes: Counter[str] = Counter()
    for _ in range(number):
        counts = tuple(int(BALANCERS[balancer](rng, share, n).sum()) for _ in stage.sources)
        outcomes[judged(stage, n, counts)] += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", type=Path, nargs="*", default=[NOTEBOOKS / "params" / "article.yaml"])
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    unkept = 0
    for file in (None, *given.file):
        for stage in stages(file):
            rows = []
            for balancer in BALANCERS:
                for share in SHARES:
                    found = cell(stage, balancer, share, given.runs, rng)
                    rates = {name: 100 * found[name] / given.runs for name in ("pass", "fail", "inconclusive")}
                    rows.append({"balancer": balancer, "share": share, **rates})
                    promised = {0.5: "pass", 0.5 + 2 * stage.tolerance: "fail"}.get(share)
                    if promised is not None:
                        unkept += analysis.share_interval(found[promised], given.runs)[1] < PROMISED
            said = f"stage {stage.number}, {file.stem if file else 'defaults'}: {stage.sent} requests of each source"
            table = pd.DataFrame(rows).round(1).to_string(index=False)
            sys.stdout.write(
                f"{said}, {100 * stage.tolerance:g} points of tolerance, % of {given.runs} runs\n{table}\n\n"
            )
    sys.stdout.write(f"{unkept} rates are surely below the {100 * PROMISED:g} % that was promised for them\n")
    return 1 if unkept else 0


if __name__ == "__main__":
    sys.exit(main())
