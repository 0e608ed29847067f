"""How often stages 1 to 3 tell shares of the answers rightly, and how many requests that takes.

A cell is the true share of the last cluster at each source, and a balancer: ``binomial`` picks at random, ``round
robin`` takes turns, and ``8 workers`` take turns each, of which a connection meets any. The mesh is configured for
half. Runs are modelled, and judged by the notebooks' claims, with their defaults and with a file of parameters.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
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
SOURCES = (probes.OUTSIDE, "cluster1", "cluster2")
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PROMISED = {"pass": 0.998, "fail": 0.95}
"""How often a mesh as configured passes a stage, and one that is off by twice the tolerance fails."""
ALL_PASS = 0.995
"""How often a mesh as configured passes the shares of all three stages of one run."""
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


EVEN = ExpectedShares(
    shares=dict.fromkeys(VERSIONS, 0.5), why="each ready endpoint counts the same (1 in cluster1, 1 in cluster2)"
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What one stage sends about shares and how it judges, as its notebook's parameters say."""

    number: int
    sources: int
    loop: int
    tolerance: float
    looks: tuple[int, ...]

    def cases(self) -> dict[str, tuple[str, tuple[float, ...]]]:
        """Return by name as which outcome it should be told, and the true share of the last cluster at each source."""
        wanted = {0.5: "pass", 0.5 + 2 * self.tolerance: "fail"}
        cases = {f"{share:.0%}": (wanted.get(share, ""), (share,) * self.sources) for share in SHARES}
        if self.sources > 1:
            others = (0.5,) * (self.sources - 1)
            for share in (0.75, 0.9, 1.0):
                cases[f"one source at {share:.0%}"] = wanted.get(share, ""), (share, *others)
            cases["10 and 90 %, pooled half"] = ("fail", (0.1, 0.9, *others[1:]))
        return cases

    def run(self, balancer: str, shares: tuple[float, ...], rng: Rng) -> tuple[str, int]:
        """Return the outcome of one run, and how many requests each source has sent."""
        last = max(self.loop, self.looks[-1])
        got = [np.cumsum(BALANCERS[balancer](rng, share, last)) for share in shares]
        for look in self.looks:
            sent = max(self.loop, look)
            outcome = worst(judged(self.tolerance, sent, int(one[sent - 1])) for one in got)
            if outcome != "inconclusive":
                break
        return outcome, sent


@cache
def judged(tolerance: float, n: int, k: int) -> str:
    """Return the worst outcome of the claims where ``k`` of one source's ``n`` answers are the last cluster's."""
    names = [LAST] * k + ["cluster1"] * (n - k)
    rows = ({"source": "one", "cluster": name, "version": VERSIONS[name], "error": ""} for name in names)
    answers = tables.from_rows(rows, tables.ANSWERS)
    test = analysis.split_test({"one": EVEN}, LAST, tolerance)
    verdicts = analysis.answers_as_expected(answers, VERSIONS, test.expected), analysis.split_as_expected(answers, test)
    return worst(verdict.outcome for verdict in verdicts)


def stages(file: Path | None) -> Iterator[Stage]:
    """Yield the stages with the parameters that a run with ``file`` has."""
    loops = {1: (SOURCES[1:], "mesh"), 2: (SOURCES[:1], "vip"), 3: (SOURCES, "outage")}
    steps = runs.plan_run(NOTEBOOKS, [str(number) for number in loops], file=file).steps
    for step, (number, (sources, name)) in zip(steps, loops.items(), strict=True):
        values = step.values()
        test = analysis.split_test(
            dict.fromkeys(sources, EVEN),
            LAST,
            values["tolerance"],
            max_failed_share=values[f"max_{name}_failed_share"],
            requests=values.get("requests", 0),
        )
        loop = values.get(f"{name}_requests", 0)
        yield Stage(number=number, sources=len(sources), loop=loop, tolerance=test.tolerance, looks=test.looks)


def shares(file: Path | None, number: int, rng: Rng) -> int:
    """Print the cells of shares of each stage; return how many rates are surely below what is promised."""
    unkept, runs_passed = 0, np.ones(number, dtype=bool)
    for stage in stages(file):
        rows = []
        for balancer, (name, (wanted, true)) in product(BALANCERS, stage.cases().items()):
            ended = [stage.run(balancer, true, rng) for _ in range(number)]
            found, sent = Counter(outcome for outcome, _ in ended), [n for _, n in ended]
            rates = {outcome: 100 * found[outcome] / number for outcome in ("pass", "fail", "inconclusive")}
            rows.append({"balancer": balancer, "share": name, **rates, "sent": np.mean(sent), "at most": max(sent)})
            if wanted:
                unkept += analysis.share_interval(found[wanted], number)[1] < PROMISED[wanted]
            if balancer == "binomial" and wanted == "pass":
                runs_passed &= np.array([outcome == "pass" for outcome, _ in ended])
        looks = " or ".join(map(str, stage.looks))
        said = f"stage {stage.number}, {file.stem if file else 'defaults'}: {looks} requests of each source"
        table = pd.DataFrame(rows).round(1).to_string(index=False)
        sys.stdout.write(f"{said}, {100 * stage.tolerance:g} points of tolerance, % of {number} runs\n{table}\n\n")
    passed = int(runs_passed.sum())
    sys.stdout.write(f"all three stages of a mesh as configured, binomial: {100 * passed / number:.2f} % pass\n\n")
    return unkept + (analysis.share_interval(passed, number)[1] < ALL_PASS)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", type=Path, nargs="*", default=[NOTEBOOKS / "params" / "article.yaml"])
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    unkept = sum(shares(file, given.runs, rng) for file in (None, *given.file))
    sys.stdout.write(f"{unkept} rates are surely below what was promised for them\n")
    return 1 if unkept else 0


if __name__ == "__main__":
    sys.exit(main())
