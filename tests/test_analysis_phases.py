"""Promises of the timeline: what was seen becomes phases with honest bounds, and nothing is made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from meshbook import tables
from meshbook.analysis import (
    Change,
    ChangeRequest,
    Observation,
    TrialRecord,
    changes,
    endpoint_names,
    phases,
    pod_states,
)

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def look(state: str, answered: float, asked: float, context: str = "cluster1") -> Observation:
    words = tuple(state.split())
    return Observation(context=context, subject="endpoints", state=words, answered=at(answered), asked=at(asked))


def test_a_change_lies_between_the_asking_of_the_last_old_list_and_the_answer_of_the_first_new_one() -> None:
    (change,) = changes([look("a b", 0.1, asked=0.0), look("a b", 1.1, asked=1.0), look("a", 1.5, asked=1.4)])
    assert (change.not_before, change.not_after) == (at(1.0), at(1.5))
    assert (change.before, change.after) == (("a", "b"), ("a",))


def test_clusters_are_told_apart() -> None:
    looks = [look("a", 0.1, 0.0), look("b", 0.2, 0.1, "cluster2"), look("", 1.0, 0.9), look("b", 1.1, 1.0, "cluster2")]
    assert [change.context for change in changes(looks)] == ["cluster1"]


def test_what_objects_show_is_told_in_names_and_words() -> None:
    ready, unready = {"ready": True}, {"ready": False}
    slices = [
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": ready, "targetRef": {"name": "web-1"}}]},
        {"endpoints": [{"addresses": ["10.0.0.2"], "conditions": unready}, {"addresses": ["10.0.0.3"]}]},
        {"endpoints": None},
    ]
    assert endpoint_names(slices) == ("10.0.0.3", "web-1")
    pods = [
        {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"metadata": {"name": "b"}, "status": {}},
        {"metadata": {"name": "c", "deletionTimestamp": "now"}, "status": {}},
    ]
    assert pod_states(pods) == ("a: ready", "b: not ready", "c: terminating")


def rows(source: str, told: Callable[[float], str], until: float = 30.0, **more: float) -> list[dict[str, Any]]:
    """Ten requests a second; ``told`` says by second who answered, or the error."""
    found = []
    for seq in range(1, int(until * 10) + 1):
        second = seq / 10
        word = told(second) if told(second) != "both" else f"v{seq % 2 + 1}"
        good = word.startswith("v")
        found.append(
            {
                "time": at(second),
                "seq": seq,
                "source": source,
                "version": word if good else "",
                "instance": f"pod-{word}" if good else "",
                "cluster": f"cluster{word[1:]}" if good else "",
                "error": "" if good else word,
                "time_total_ms": 20.0,
                "time_error_ms": 1.0,
                "clock_error_ms": 0.5,
                **more,
            }
        )
    return found


def outside(second: float) -> str:
    """The outage is ordered at 10 s, v1 answers until 10.3, errors until 10.7, and v1 is back at 21 s."""
    if 10.3 < second <= 10.75:
        return "http_503"
    return "v2" if 10.75 < second < 21 else "both"


def seen(subject: Any, before: str, after: str, low: float, high: float, context: str = "cluster1") -> Change:
    states = {
        "before": tuple(before.split(" + ")) if before else (),
        "after": tuple(after.split(" + ")) if after else (),
    }
    return Change(context=context, subject=subject, not_before=at(low), not_after=at(high), **states)


CHANGES = [
    seen("endpoints", "a", "", 9.9, 10.2),
    seen("pods", "", "b: not ready", 20.0, 20.1),
    seen("pods", "b: not ready", "b: ready", 20.3, 20.6),
    seen("endpoints", "", "b", 20.6, 20.7),
]


def record(answers: list[dict[str, Any]], some: Sequence[Change] = CHANGES) -> TrialRecord:
    return TrialRecord(
        mode="scale-to-zero",
        context="cluster1",
        trial=1,
        outage=ChangeRequest(asked=at(10.0), accepted=at(10.05)),
        restore=ChangeRequest(asked=at(20.0), accepted=at(20.02)),
        answers=tables.from_rows(answers, tables.ANSWERS),
        changes=some,
        contexts=("cluster1", "cluster2"),
    )


def told(frame: pd.DataFrame, phase: str, place: str = "") -> Any:
    found = frame[(frame["phase"] == phase) & frame["place"].str.contains(place)]
    assert len(found) == 1, frame.to_string()
    return found.iloc[0]


def test_every_phase_of_an_outage_is_told_with_its_range() -> None:
    frame = phases(record(rows("external client", outside)))
    expected = {
        "request accepted": (0.0, 0.05),
        "last answer of the stopped side": (0.1985, 0.2215),
        "first failure": (0.3985, 0.4215),
        "last failure": (0.6985, 0.7215),
        "only the survivor answers": (0.7985, 0.8215),
        "restore request accepted": (0.0, 0.02),
        "replicas back": (0.0, 0.1),
        "replicas ready": (0.3, 0.6),
        "endpoints back": (0.6, 0.7),
    }
    for phase, (low, high) in expected.items():
        row = told(frame, phase)
        assert (row["low_s"], row["high_s"]) == pytest.approx((low, high)), phase
    assert told(frame, "first answer again")["low_s"] == pytest.approx(1.0, abs=0.15)


def test_no_effect_is_earlier_than_its_order() -> None:
    frame = phases(record(rows("external client", outside)))
    assert told(frame, "endpoints gone", "cluster1")["low_s"] == 0.0
    assert (frame["low_s"].dropna() >= 0).all()


def test_a_cluster_that_nothing_happened_to_is_said_to_be_unchanged() -> None:
    row = told(phases(record(rows("external client", outside))), "endpoints gone", "cluster2")
    assert pd.isna(row["not_after"])
    assert row["detail"] == "unchanged all the time"


def test_pods_that_were_replaced_are_gone_even_if_their_number_never_changed() -> None:
    replaced = [seen("endpoints", "a + b", "b", 10.1, 10.2), seen("endpoints", "b", "c + d", 10.3, 10.4)]
    row = told(phases(record(rows("external client", outside), replaced)), "endpoints gone", "cluster1")
    assert row["high_s"] == pytest.approx(0.4)


def test_pods_that_were_replaced_one_by_one_are_gone_when_the_last_of_them_is() -> None:
    steps = [("a + b", "b + c", 10.1, 10.2), ("b + c", "c + d", 10.5, 10.6)]
    some = [seen("endpoints", before, after, low, high) for before, after, low, high in steps]
    row = told(phases(record([], some)), "endpoints gone", "cluster1")
    assert (row["low_s"], row["high_s"]) == (pytest.approx(0.5), pytest.approx(0.6))


def test_where_no_endpoints_were_none_are_gone() -> None:
    row = told(phases(record([], [seen("endpoints", "", "a", 10.1, 10.2)])), "endpoints gone", "cluster1")
    assert (pd.isna(row["high_s"]), row["detail"]) == (True, "changed to a")


def test_of_a_cluster_whose_api_server_was_silent_nothing_is_called_unchanged() -> None:
    row = told(phases(record([], [seen("api", "reachable", "unreachable", 10.1, 10.2)])), "endpoints gone", "cluster1")
    assert row["detail"] == "not known: its API server was unreachable"


def test_without_a_failure_none_is_made_up() -> None:
    frame = phases(record(rows("external client", lambda second: "v2" if 10.3 < second < 21 else "both")))
    row = told(frame, "first failure")
    assert pd.isna(row["not_after"])
    assert row["detail"] == "none in 100 requests"


def test_each_source_misses_the_clusters_that_it_missed() -> None:
    """A link is cut: cluster1 misses v2, cluster2 misses v1, and outside misses nobody."""
    answers = rows("cluster1", lambda second: "v1" if 10 < second < 21 else "both")
    answers += rows("cluster2", lambda second: "v2" if 10 < second < 21 else "both") + rows(
        "external client", lambda _: "both"
    )
    frame = phases(record(answers, []))
    assert told(frame, "only the survivor answers", "cluster1")["detail"] == "all 100 from cluster1 until its end"
    assert told(frame, "only the survivor answers", "cluster2")["detail"] == "all 99 from cluster2 until its end"
    assert told(frame, "last answer of the stopped side", "external client")["detail"] == "no cluster went down for it"


def test_a_survivor_that_fails_late_has_carried_the_service_before_and_its_last_failure_is_told() -> None:
    def told_late(second: float) -> str:
        return "http_503" if 15 < second < 19 else "v2" if 10 <= second < 21 else "both"

    frame = phases(record(rows("external client", told_late)))
    low_s = {
        phase: told(frame, phase)["low_s"] for phase in ("only the survivor answers", "first failure", "last failure")
    }
    assert low_s == pytest.approx(
        {"only the survivor answers": 0.0, "first failure": 5.1, "last failure": 8.9}, abs=0.01
    )


def test_a_survivor_that_never_settles_is_not_called_stable() -> None:
    flapping = rows(
        "external client", lambda second: ("v2" if int(second * 10) % 3 else "timeout") if 10 < second < 20 else "both"
    )
    row = told(phases(record(flapping)), "only the survivor answers")
    assert pd.isna(row["not_after"])
    assert row["detail"].startswith("not seen")


def test_a_side_that_does_not_come_back_is_not_called_back() -> None:
    frame = phases(record(rows("external client", lambda second: "v2" if second > 10.3 else "both"), []))
    assert told(frame, "first answer again")["detail"] == "none from cluster1"
    assert told(frame, "replicas ready")["detail"] == "unchanged"


def test_rows_without_stated_errors_get_wide_ones() -> None:
    bare = [{**row, "time_error_ms": None, "clock_error_ms": None} for row in rows("external client", outside)]
    row = told(phases(record(bare)), "first failure")
    assert row["high_s"] - row["low_s"] == pytest.approx(0.07)


def test_an_outage_that_nobody_watched_still_has_its_orders() -> None:
    frame = phases(record([], []))
    assert told(frame, "request accepted")["high_s"] == pytest.approx(0.05)
