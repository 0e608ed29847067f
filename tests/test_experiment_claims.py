"""Promises of the ladder's claims: an outage that was planted fails them, and what is not proved stays open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from ladder_rounds import BROKEN, CALM, answers, at, done

from meshbook import experiment, tables
from meshbook.errors import UsageError
from meshbook.experiment import Limits
from meshbook.outage import Check, Plan

VERSIONS = ("v1", "v2")


def outcomes(found: Sequence[Any]) -> dict[str, str]:
    return {verdict.claim: verdict.outcome for verdict in found}


LIMITS = Limits(max_gap_s=1.0)


def test_a_mode_that_must_be_survived_and_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="must_survive: there is no mode scale-to-zerro"):
        Limits(must_survive=("scale-to-zerro",))


def test_a_service_that_goes_on_passes_every_claim() -> None:
    found = experiment.claims([done(CALM), done(CALM, repeat=2)], [], LIMITS, VERSIONS)
    assert set(outcomes(found).values()) == {"pass"}, [str(one) for one in found]
    assert all(len(one.details) == 2 for one in found)


def test_table_and_claim_give_the_same_numbers_of_the_same_requests() -> None:
    one = done(CALM)
    claims = {verdict.claim: verdict for verdict in experiment.claims([one], [], LIMITS, VERSIONS)}
    for _, row in experiment.rounds([one]).iterrows():
        verdict = claims[f"the service is never away for more than 1 s (seen by {row['source']})"]
        assert (verdict.n, verdict.high) == (row["sent"], math.ceil(row["high_ms"] / 10) / 100)


def test_an_outage_after_all_was_ready_again_counts_too() -> None:
    late = done([*answers("outside", (21.0, 23.0)), *answers("cluster1")])
    assert experiment.rounds([late]).set_index("source").loc["outside", "failed"] == 20
    told = outcomes(experiment.claims([late], [], LIMITS, VERSIONS))
    assert told["the service is never away for more than 1 s (seen by outside)"] == "fail"


def test_one_bad_outage_of_several_fails_the_claim_of_the_source_that_saw_it() -> None:
    found = experiment.claims([done(CALM), done(BROKEN, repeat=2)], [], LIMITS, VERSIONS)
    told = outcomes(found)
    assert told["the service is never away for more than 1 s (seen by outside)"] == "fail"
    assert told["the service is never away for more than 1 s (seen by cluster1)"] == "pass"


def test_a_side_that_went_on_answering_was_not_away() -> None:
    found = experiment.claims([done([*answers("outside", ghost=True)])], [], LIMITS, VERSIONS)
    carried = next(verdict for verdict in found if "carries the service" in verdict.claim)
    assert carried.outcome == "fail"
    assert "It was not away" in carried.reason


def test_modes_that_need_not_be_survived_are_measured_only() -> None:
    found = experiment.claims([done(BROKEN, mode="readiness-lost")], [], LIMITS, VERSIONS)
    assert set(outcomes(found).values()) == {"pass"}
    assert not [verdict for verdict in found if "never away" in verdict.claim]


def test_pods_that_ask_from_a_silent_cluster_are_not_held_against_it() -> None:
    one = done([*answers("outside"), *answers("cluster1")[:120]], mode="cluster-down")
    told = outcomes(experiment.claims([one], [], Limits(must_survive=("cluster-down",)), VERSIONS))
    assert told["every source gets answers again from v1 and v2"] == "pass"
    assert not [claim for claim in told if "seen by cluster1" in claim]


def test_a_source_of_which_nothing_came_back_is_not_passed_over() -> None:
    lost = [{**row, "error": "lost", "time": None} for row in answers("cluster2")]
    found = outcomes(experiment.claims([done([*CALM, *lost])], [], LIMITS, VERSIONS))
    assert found["the service is never away for more than 1 s (seen by cluster2)"] == "inconclusive"
    assert found["the service is never away for more than 1 s (seen by cluster1)"] == "pass"


def test_a_share_that_is_not_proved_to_be_back_is_inconclusive() -> None:
    short = [row for row in answers("outside") if row["time"] < at(21)]
    found = experiment.claims([done(short)], [], LIMITS, VERSIONS)
    assert [verdict.outcome for verdict in found if "unchanged" in verdict.claim] == ["inconclusive"]


def plan(*checks: Check) -> Plan:
    return Plan(
        mode="scale-to-zero",
        about="",
        context="cluster1",
        application="web",
        changes=(),
        undone="",
        checks=checks,
    )


def test_a_dry_run_says_whether_it_may_start() -> None:
    fine, bad = Check(name="allowed", ok=True), Check(name="a survivor", ok=False, saw="nobody is ready")
    found = experiment.claims([], [plan(fine), plan(fine, bad)], LIMITS, VERSIONS)
    assert [verdict.outcome for verdict in found] == ["pass", "fail"]
    assert found[1].reason == "nobody is ready"
    assert [verdict.outcome for verdict in experiment.claims([], [], LIMITS, VERSIONS)] == ["inconclusive"]


def test_a_calibration_that_misses_the_truth_fails() -> None:
    row = {"fault": "frozen", "source": "outside", "path": "vip", "true_ms": 300.0, "width_ms": 200.0, "off_ms": 0.0}
    row |= {"seen": True, "low_ms": 200.0, "high_ms": 400.0}
    fine = tables.from_rows([row | {"within": True}], tables.CALIBRATION)
    wrong = tables.from_rows([row | {"within": True}, row | {"within": False, "off_ms": 40.0}], tables.CALIBRATION)
    assert [verdict.outcome for verdict in experiment.claims_on(fine)] == ["pass"]
    (verdict,) = experiment.claims_on(wrong)
    assert verdict.outcome == "fail"
    assert "The worst lay 40 ms outside" in verdict.reason
    assert experiment.claims_on(tables.empty(tables.CALIBRATION)) == []
