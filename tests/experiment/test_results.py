"""Promises of what an experiment shows: downtime is a range, planted outages fail, what is not proved stays open."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from busy_service import Failover
from plans import plan
from trials import BROKEN, CALM, afterwards, answers, at, gap_of, outcomes, trial

from meshbook import charts, experiment, mesh, tables
from meshbook.errors import NotRestoredError, OutageError, UsageError
from meshbook.experiment import Limits, LoadProfile, Results, Step, Trial
from meshbook.mesh import Direction, Finding
from meshbook.outage import Check
from meshbook.verdict import Verdict

LIMITS = Limits(max_gap_s=1.0)


def failed(row: dict[str, Any], wrong: bool) -> dict[str, Any]:
    return {**row, "error": "timeout", "version": "", "instance": "", "cluster": ""} if wrong else row


TORN = [failed(row, 110 < row["seq"] < 190 and row["seq"] % 2 > 0) for row in answers("external client")]
"""Every other request fails for eight seconds."""


def test_causes_are_those_of_ways_that_are_silent_since_all_was_ready_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[pd.DataFrame] = []
    way = Direction(source="cluster1", destination="cluster2")
    found = [Finding(direction=way, look="way", state=state, seen="") for state in ("cause", "not looked at", "fine")]
    monkeypatch.setattr(mesh, "why", lambda _, __, rows, **___: asked.append(rows) or found)
    monkeypatch.setattr(mesh, "why_outside", lambda _, __, rows, **___: asked.append(rows) or [])
    target = cast(
        Any, SimpleNamespace(fleet=[], inside="", outside=[mesh.Entry(url="")], namespace="", gateway_namespace="")
    )
    assert experiment.causes(Results(), target) == []
    assert [one.state for one in experiment.causes(Results([trial(CALM)]), target)] == ["cause", "not looked at"]
    everywhere, outside = asked
    assert everywhere["time"].min() > at(20.6)
    assert set(everywhere["source"]) == {"external client", "cluster1"}
    assert set(outside["source"]) == {"external client"}


# tables
def test_the_stopped_side_is_expected_to_be_silent_during_the_outage_and_nowhere_else() -> None:
    stopped, kept = (
        trial(CALM).coverage.query("cluster == @name")["state"].tolist() for name in ("cluster1", "cluster2")
    )
    assert stopped == ["proven"] * 2 + ["none expected"] * 2 + ["proven"] * 2
    assert kept == ["proven"] * 6


def test_an_outage_in_pieces_also_says_how_long_it_went_on_in_all() -> None:
    (told,) = trial(TORN).headline
    assert re.search(r"degraded for 7\d+ to 8\d+ ms from 12:00:1.*40 of 79 failed", told), told


def test_two_outages_with_a_short_recovery_between_are_told_with_both() -> None:
    one = trial([failed(row, 110 < row["seq"] < 140 or 145 < row["seq"] < 170) for row in answers("external client")])
    told = one.headline[0]
    assert re.search(r"unavailable for 2\d+ to 3\d+ ms from 12:00:11 on, then unavailable for 2\d+ to \d+ ms", told), (
        told
    )
    assert one.episodes["kind"].tolist() == ["unavailable", "unavailable"]
    assert Results([one]).episodes["trial"].tolist() == [1, 1]


def test_requests_that_were_lost_make_an_outage_unknown_and_not_absent() -> None:
    lost = [{**row, "error": "lost", "time": None} if row["time"] > at(9) else row for row in answers("cluster1")]
    table = Results([trial(lost)]).summary
    assert table["n"].iloc[0] == 0
    assert experiment.summary_to_display(table)["no good answer: range"].iloc[0] == "not known"


def trials_of(*ranges: tuple[float, float | None], windows: int = 1) -> pd.DataFrame:
    fixed = {
        "mode": "pods-deleted",
        "context": "cluster1",
        "source": "external client",
        "path": "vip",
        "sent": 50,
        "failed": 5,
    }
    rows = [
        {**fixed, "trial": number, "low_ms": low, "high_ms": high, "windows": windows}
        for number, (low, high) in enumerate(ranges, start=1)
    ]
    return tables.from_rows(rows, tables.TRIALS)


@pytest.mark.parametrize(
    ("ranges", "windows", "median", "whole"),
    [
        ([(100, 200), (300, 500), (150, 250)], 1, "150 to 250 ms", "100 to 500 ms"),
        ([(100, None), (300, None), (150, 250)], 1, "150 to … ms", "100 to … ms"),
        ([(0, 120), (0, 90)], 0, "none, or below 105 ms", "none, or below 120 ms"),
        ([(61_000, 72_340)], 1, None, "61.0 to 72.3 s"),
    ],
    ids=["seen", "end not seen", "none seen", "one trial"],
)
def test_median_and_range_of_ranges_are_ranges(ranges: Any, windows: int, median: str | None, whole: str) -> None:
    shown = experiment.summary_to_display(experiment.summary(trials_of(*ranges, windows=windows))).iloc[0]
    assert (shown.get("no good answer: median"), shown["no good answer: range"]) == (median, whole)


def test_who_did_not_watch_to_the_end_is_told_so() -> None:
    one = trial([*answers("external client"), *(row for row in answers("cluster1") if row["time"] < at(15))])
    assert "did not watch from before to after" in one.headline[1]
    shown = experiment.summary_to_display(Results([one]).summary).set_index("seen by")
    assert shown.loc["cluster1", "no good answer: range"] == "none seen, but not watched from before to after"
    charts.downtime_by_step(Results([one]).downtime)


def test_nothing_done_makes_empty_tables() -> None:
    nothing = Results()
    for made in (nothing.answers, nothing.loop, nothing.afterwards, nothing.phases, nothing.attribution):
        assert made.empty
    assert nothing.downtime.empty
    assert nothing.episodes.empty
    assert experiment.summary_to_display(nothing.summary).empty


def test_the_headline_says_what_each_source_noticed() -> None:
    lines = trial(BROKEN).headline
    assert lines[0].startswith("external client: unavailable for 1")
    assert "15 of 153 requests failed" in lines[0]
    assert lines[1].startswith("cluster1: none of 153 requests failed; detection limit")
    assert len(lines) == 2


# claims
def claim(found: Sequence[Verdict], part: str) -> Verdict:
    (verdict,) = (one for one in found if part in one.claim)
    return verdict


def test_a_mode_that_must_be_survived_and_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="must_survive: there is no mode scale-to-zerro"):
        Limits(must_survive=("scale-to-zerro",))


def test_a_service_that_goes_on_passes_every_claim() -> None:
    found = experiment.claims(Results([trial(CALM), trial(CALM, number=2)]), [], LIMITS)
    assert set(outcomes(found).values()) == {"pass"}, [str(one) for one in found]
    assert all(len(one.details) == 2 for one in found)


@pytest.mark.parametrize("rows", [CALM, BROKEN, TORN], ids=["calm", "one outage", "every other request"])
def test_table_chart_headline_and_claims_give_the_same_numbers_of_the_same_requests(rows: Any) -> None:
    one = trial(rows)
    found = experiment.claims(Results([one]), [], LIMITS)
    gaps = {gap_of(verdict): verdict for verdict in found}
    counts = {row["source"]: row for row in claim(found, "requests fail").details}
    told = [text.get_text() for text in charts.downtime_by_step(Results([one]).downtime, 1.0).axes[0].texts]
    for row in one.downtime.to_dict("records"):
        verdict, of_source = gaps[f"seen by {row['source']}"], counts[row["source"]]
        low, high = math.floor(row["low_ms"] / 10) / 100, math.ceil(row["high_ms"] / 10) / 100
        assert (verdict.n, verdict.low, verdict.high) == (row["sent"], low, high)
        assert (of_source["failed"], of_source["sent"]) == (row["failed"], row["sent"])
        if row["failed"]:
            assert f" {row['failed']} of {row['sent']} failed" in told
            assert any(f"{row['failed']} of {row['sent']} requests failed" in line for line in one.headline)


def test_an_outage_after_all_was_ready_again_counts_too() -> None:
    late = trial([*answers("external client", (21.0, 23.0)), *answers("cluster1")])
    assert Results([late]).downtime.set_index("source").loc["external client", "failed"] == 20
    assert outcomes(experiment.claims(Results([late]), [], LIMITS))["seen by external client"] == "fail"


def test_one_bad_outage_of_several_fails_the_claim_of_the_source_that_saw_it() -> None:
    found = outcomes(experiment.claims(Results([trial(CALM), trial(BROKEN, number=2)]), [], LIMITS))
    assert found["seen by external client"] == "fail"
    assert found["seen by cluster1"] == "pass"


def test_a_side_that_went_on_answering_was_not_down() -> None:
    found = experiment.claims(Results([trial(answers("external client", ghost=True))]), [], LIMITS)
    carried = claim(found, "by the survivor alone")
    assert carried.outcome == "fail"
    assert "answers still came" in carried.reason


def test_modes_that_need_not_be_survived_are_measured_only() -> None:
    found = outcomes(experiment.claims(Results([trial(BROKEN, mode="readiness-lost")]), [], LIMITS))
    assert set(found.values()) == {"pass"}
    assert "seen by external client" not in found


def test_pods_that_ask_from_a_cluster_that_is_down_are_not_held_against_it() -> None:
    one = trial([*answers("external client"), *answers("cluster1")[:120]], mode="cluster-down")
    found = outcomes(experiment.claims(Results([one]), [], Limits(must_survive=("cluster-down",))))
    assert found["every source is answered by pods of cluster1 (v1) and cluster2 (v2) after each outage"] == "pass"
    assert not [claim for claim in found if claim == "seen by cluster1"]


def test_the_address_of_a_cluster_that_is_down_is_no_witness() -> None:
    near, far = (f"external client via cluster{number}" for number in (1, 2))
    one = replace(trial([*answers(near, (10.5, 20.0)), *answers(far)], mode="cluster-down"), silenced=frozenset({near}))
    assert set(one.witnessed["source"]) == {far}
    assert set(one.downtime["source"]) == {near, far}


def test_a_source_of_which_nothing_came_back_is_not_passed_over() -> None:
    lost = [{**row, "error": "lost", "time": None} for row in answers("cluster2")]
    found = outcomes(experiment.claims(Results([trial([*CALM, *lost])]), [], LIMITS))
    assert found["seen by cluster2"] == "inconclusive"
    assert found["seen by cluster1"] == "pass"


@pytest.mark.parametrize(
    ("shares", "outcome"),
    [((20, 40, 40), "inconclusive"), ((8, 40, 40), "fail"), ((72, 40, 8), "fail"), ((26, 40, 40), "inconclusive")],
    ids=["half to a quarter", "half to a tenth", "a tenth and nine tenths, pooled a half", "near the limit"],
)
def test_a_share_that_is_off_at_one_source_does_not_pass(shares: tuple[int, int, int], outcome: str) -> None:
    sources = ("external client", "cluster1", "cluster2")
    after = [row for source, k in zip(sources, shares, strict=True) for row in afterwards(source, k)]
    rows = [*CALM, *answers("cluster2")]
    verdict = claim(experiment.claims(Results([trial(rows, after=after)]), [], LIMITS), "25 points")
    assert verdict.outcome == outcome, str(verdict)
    assert "Expected 50 %: each ready endpoint counts the same (1 in cluster1, 1 in cluster2)" in verdict.reason


def test_of_outages_that_pass_the_one_with_the_least_room_makes_the_numbers() -> None:
    rows = [*answers("external client"), *answers("cluster1")]
    near = [*afterwards("external client"), *afterwards("cluster1", 31)]
    found = experiment.claims(Results([trial(rows), trial(rows, number=2, after=near)]), [], LIMITS)
    for words in ("25 points", "cluster2 (v2) after each outage"):
        verdict = claim(found, words)
        assert (verdict.outcome, verdict.estimate) == ("pass", 39), str(verdict)


def test_a_way_that_is_lost_in_an_outage_passes_none_of_the_claims_on_what_comes_after() -> None:
    """cluster1 gets nothing from cluster2 any more, and half of what it asks hangs."""
    after = [failed(row, row["cluster"] == "cluster2") for row in afterwards("cluster1", 8, 16)]
    rows = [*answers("external client"), *answers("cluster1", (12.0, 20.5))]
    found = experiment.claims(Results([trial(rows, after=[*after, *afterwards("external client")])]), [], LIMITS)
    later = [verdict for verdict in found if "after each outage" in verdict.claim]
    assert "pass" not in {verdict.outcome for verdict in later}
    assert claim(later, "is answered by pods of").outcome == "fail"
    assert claim(found, "requests fail").outcome == "fail"


# slow told apart from failed
def slowed(source: str, took_ms: float) -> list[dict[str, Any]]:
    """Every other request of the outage is answered late, as where a proxy waits for one side, then asks the other."""
    return [
        {**row, "time_total_ms": took_ms} if 100 < row["seq"] < 200 and row["seq"] % 2 else row
        for row in answers(source)
    ]


def test_answers_that_come_late_fail_a_claim_of_their_own_and_no_other() -> None:
    one = trial([*slowed("external client", 3000.0), *answers("cluster1")])
    assert one.downtime[["source", "failed", "late"]].to_numpy().tolist() == [
        ["external client", 0, 50],
        ["cluster1", 0, 0],
    ]
    assert "none of 153 requests failed, 50 late" in one.headline[0]
    assert experiment.summary_to_display(Results([one]).summary)["late answers"].tolist() == ["50 of 153", "0 of 153"]
    found = outcomes(experiment.claims(Results([one]), [], Limits(max_gap_s=4.0)))
    assert found.pop("at most 5 % of the answers are late (after 1 s)") == "fail"
    assert set(found.values()) == {"pass"}


def test_a_service_that_stood_still_was_unavailable_although_all_who_waited_got_their_answer() -> None:
    one = trial(Failover(per_s=3, answer_s=0.02, frozen=(12.0, 15.0)).watched()[0])
    row = one.downtime.set_index("source").loc["external client"]
    assert (row["failed"], row["windows"]) == (0, 1)
    assert 1500 <= row["low_ms"] <= 3000 <= row["high_ms"] <= 3500
    assert one.headline[0].startswith("external client: unavailable for ")
    assert outcomes(experiment.claims(Results([one]), [], LIMITS))["seen by external client"] == "fail"


def test_a_limit_that_the_rate_has_set_is_told_in_the_verdict() -> None:
    limits = Limits(max_gap_s=3.9, gap_note="not 2 s: the least that can be seen at 0.7/s")
    gap = next(found for found in experiment.claims(Results([trial(CALM)]), [], limits) if "seen by" in found.claim)
    assert gap.claim.startswith("the service is never unavailable for more than 3.9 s")
    assert gap.reason.endswith("The limit is 3.9 s, not 2 s: the least that can be seen at 0.7/s.")


def test_what_a_caller_calls_late_is_his_own_word() -> None:
    one = replace(trial(slowed("external client", 3000.0)), slow_after_s=4.0)
    assert one.downtime["late"].tolist() == [0]
    with pytest.raises(UsageError, match="slow_after_s lies above 0 and not above patience_s, 15 s"):
        LoadProfile(slow_after_s=20.0)


def test_late_and_failed_are_told_apart_in_the_charts() -> None:
    one = trial([*slowed("external client", 3000.0), *answers("cluster1", (12.0, 13.5))])
    figure = charts.timeline(one.phases, one.answers, one.headline, one.slow_after_s)
    labels = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert "late" in labels
    assert "failed" in labels
    told = [text.get_text().strip() for text in charts.downtime_by_step(Results([one]).downtime).axes[0].texts]
    assert told == ["50 of 153 late", "15 of 153 failed"]


# an experiment of which a part could not be done
AHEAD = [(Step(mode="scale-to-zero", context="cluster1"), number) for number in (1, 2, 3)]


def run_trials(errors: dict[int, Exception]) -> Results:
    """Run three calm trials, of which some raise instead."""

    def do(step: Step, number: int) -> Trial:
        if number in errors:
            raise errors[number]
        return trial(CALM, number=number)

    return experiment.run_trials(AHEAD, do)


def test_a_trial_that_cannot_start_costs_no_other_its_tables_and_is_told_as_not_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    results = run_trials({2: OutageError("no outage of web: the state before is steady? v2 0/1 ready")})
    assert sorted(results.downtime["trial"].unique()) == [1, 3]
    *judged, missing = experiment.claims(results, [], LIMITS)
    assert {verdict.outcome for verdict in judged} == {"pass"}
    assert (missing.claim, missing.outcome) == ("every planned outage was done, and restored", "inconclusive")
    assert missing.reason.startswith("1 of 3 were not. scale-to-zero at cluster1, trial 2: no outage of web")
    assert "trial 2: not done: no outage of web" in caplog.text
    assert caplog.messages[-1] == "2 of 3 outages done, all restored"


def test_what_was_not_restored_fails_and_costs_no_earlier_trial_its_tables(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    results = run_trials({2: NotRestoredError("what was down was not restored", hint="meshbook restore")})
    assert list(results.downtime["trial"].unique()) == [1]
    *judged, missing = experiment.claims(results, [], LIMITS)
    assert {verdict.outcome for verdict in judged} == {"pass"}
    assert (missing.outcome, missing.reason) == ("fail", "what was down was not restored: meshbook restore")
    assert [row["outage"] for row in missing.details] == [f"scale-to-zero at cluster1, trial {n}" for n in (2, 3)]
    assert "3 of 3" not in caplog.text, "nothing starts while something is down"
    assert caplog.messages[-1] == "1 of 3 outages done, one NOT restored"


def test_a_trial_after_which_not_all_is_steady_again_fails() -> None:
    one = replace(trial(CALM), unsteady="cluster1: steady again not within 300 s: helloworld-v1 0/1 ready")
    verdict = experiment.claims(Results([one]), [], LIMITS)[-1]
    assert (verdict.claim, verdict.outcome) == ("afterwards everything is steady again", "fail")
    assert "helloworld-v1 0/1 ready" in verdict.reason


def test_an_experiment_of_which_nothing_was_done_is_an_error() -> None:
    with pytest.raises(OutageError, match="the first"):
        run_trials({number: OutageError(word) for number, word in enumerate(("the first", "b", "c"), start=1)})
    with pytest.raises(NotRestoredError):
        run_trials({1: OutageError("not allowed"), 2: NotRestoredError("what was down was not restored")})


def test_a_dry_run_passes_with_its_plan_and_says_what_would_be_refused() -> None:
    fine, bad = Check(name="allowed", ok=True), Check(name="a survivor is healthy", ok=False, saw="b 0/1 ready")
    found = experiment.claims(Results(), [plan(fine), plan(fine, bad)], LIMITS)
    assert [verdict.outcome for verdict in found] == ["pass", "pass"]
    assert found[0].reason == "1 checks, none against it."
    assert found[1].reason == "It would be refused. a survivor is healthy? b 0/1 ready"
    assert found[1].details == ({"would be refused": "scale-to-zero at cluster1: a survivor is healthy? b 0/1 ready"},)
    assert [verdict.outcome for verdict in experiment.claims(Results(), [], LIMITS)] == ["inconclusive"]


def test_a_calibration_that_misses_the_truth_fails() -> None:
    row = {"source": "external client", "path": "vip", "seen": True, "width_ms": 200.0, "within": False, "off_ms": 40.0}
    wrong = tables.from_rows([row], tables.CALIBRATION)
    for calibration, outcome in ((wrong, "fail"), (wrong.iloc[:0], "inconclusive")):
        assert experiment.claims(Results(), [], LIMITS, calibration)[-1].outcome == outcome
