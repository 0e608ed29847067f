"""Promises of load told apart from outage: what it explains is left open, and what it does not still fails."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from busy_service import Failover
from trials import outcomes, trial

from meshbook import experiment
from meshbook.analysis import Capacity
from meshbook.experiment import Limits, Results

LIMITS = Limits(max_gap_s=1.0)


def watched(per_s: float, answer_s: float, **given: Any) -> list[dict[str, Any]]:
    return Failover(per_s=per_s, answer_s=answer_s, **given).watched()[0]


def capacity_of(per_s: float) -> Capacity:
    return Capacity(per_s=per_s, low_per_s=0.9 * per_s, high_per_s=1.1 * per_s, n=60, pods=1, calm_ms=50, busy_ms=200)


@pytest.mark.parametrize("patience_s", [1.0, 15.0], ids=["gives up after 1 s", "waits"])
def test_failures_that_the_load_explains_are_no_outage(patience_s: float) -> None:
    one = trial(watched(10, 0.05, patience_s=patience_s))
    assert one.overload.explained.any()
    found = experiment.claims(Results([one]), [], LIMITS)
    assert "fail" not in outcomes(found).values(), [str(verdict) for verdict in found]
    open_ones = [verdict for verdict in found if verdict.outcome == "inconclusive" and "overloaded" in verdict.reason]
    assert open_ones
    told = re.match(r"The survivor was overloaded by ([\d.]+)/s, capacity about ([\d.]+)/s\. ", open_ones[0].reason)
    assert told, open_ones[0].reason
    assert float(told[1]) == pytest.approx(10, abs=2)
    assert float(told[2]) == pytest.approx(20, abs=2)
    counts = re.search(r"\. (\d+) requests were late and (\d+) failed for that\. ", open_ones[0].reason)
    assert counts, open_ones[0].reason
    assert int(counts[1 if patience_s > 1 else 2]) > 0 == int(counts[2 if patience_s > 1 else 1])


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        (watched(3, 0.05, frozen=(12.0, 15.0), patience_s=1.0), "external client"),
        (watched(3, 0.05, silent=(12.0, 15.0), patience_s=1.0), "cluster1"),
        (watched(3, 0.002, silent=(12.0, 15.0), patience_s=2.0), "cluster1"),
        (watched(3, 0.05, failing=(12.0, 17.0), share=1.0), "external client"),
        (watched(5, 0.05, failing=(12.0, 17.0), share=1.0), "external client"),
    ],
    ids=["the survivor stands still", "a way is cut", "a way is cut, fast pods", "503s", "503s, and rather busy"],
)
def test_failures_that_the_load_does_not_explain_stay_an_outage(rows: Any, source: str) -> None:
    one = trial(rows)
    assert not one.overload.explained.any()
    assert outcomes(experiment.claims(Results([one]), [], LIMITS))[f"seen by {source}"] == "fail"


@pytest.mark.parametrize(
    "given",
    [{"times": 6, "loses_readiness": True}, {"times": 4, "refuses_after_s": 1.0}],
    ids=["their readiness is lost", "they refuse"],
)
def test_fast_errors_of_pods_that_had_too_much_to_do_are_the_loads(given: dict[str, Any]) -> None:
    rows, changes = Failover(per_s=2.8, answer_s=0.05, slowed=(11.0, 18.0), **given).watched()
    one = replace(trial(rows, changes=changes), bears=capacity_of(20))
    few = next(verdict for verdict in experiment.claims(Results([one]), [], LIMITS) if "requests fail" in verdict.claim)
    assert few.outcome == "inconclusive"
    assert re.match(r"The survivor was overloaded by [\d.]+/s, capacity about [\d.]+/s; when measured, ", few.reason)
    assert "): something else took its time, as on a busy machine. " in few.reason
    assert int(few.reason.partition(" failed for that")[0].rpartition(" ")[2]) > 10


def test_a_readiness_that_is_lost_while_all_answers_are_prompt_is_an_outage() -> None:
    lost = Failover(per_s=2.8, answer_s=0.05, slowed=(11.0, 18.0), times=6, loses_readiness=True).watched()[1]
    one = trial(watched(2.8, 0.05, failing=(14.0, 18.0), share=1.0), changes=lost)
    assert [change.after for change in lost] == [(), ("web-v2",)]
    assert outcomes(experiment.claims(Results([one]), [], LIMITS))["seen by external client"] == "fail"


def test_a_failover_that_makes_a_half_of_the_answers_late_is_not_excused() -> None:
    one = trial(watched(3, 0.05, held=(10.0, 20.0), held_s=3.0))
    claims = {verdict.claim: verdict.outcome for verdict in experiment.claims(Results([one]), [], LIMITS)}
    assert claims["at most 5 % of the answers are late (after 1 s)"] == "fail"


def test_a_machine_that_stood_still_leaves_the_length_open_and_is_named() -> None:
    one = trial(watched(3, 0.05, still=(12.0, 15.0)))
    gap = next(found for found in experiment.claims(Results([one]), [], LIMITS) if "seen by" in found.claim)
    assert gap.outcome == "inconclusive"
    assert re.search(r" For 3\.\d s of it no request is known .*: the sender was too busy", gap.reason)


def test_an_outage_besides_an_overload_still_fails() -> None:
    rows = watched(7, 0.05, silent=(11.0, 19.0), patience_s=1.0)
    assert outcomes(experiment.claims(Results([trial(rows)]), [], LIMITS))["seen by cluster1"] == "fail"


def test_how_busy_the_survivor_was_is_a_table_of_before_during_and_after() -> None:
    one = replace(trial(watched(3, 0.05)), bears=capacity_of(20))
    found = Results([one]).load.set_index("part")
    assert list(found.index) == ["before", "during", "after"]
    assert found["offered_per_s"].between(8.9, 9.4).all()
    assert found.loc["during", "utilisation"] == pytest.approx(0.45, abs=0.02)
    assert found.loc["before", "utilisation"] == pytest.approx(0.22, abs=0.03)
    assert found.loc["during", "median_ms"] < 200
    assert Results().load.empty
