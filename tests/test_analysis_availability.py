"""Promises of availability: the truth lies in every range, and what was not seen is not claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from meshbook import analysis, tables
from meshbook.analysis import Fault
from meshbook.errors import UsageError

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
INTERVAL_S, USUAL_S, TIMEOUT_S = 0.1, 0.005, 1.0


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Sent:
    """One request: when, how long it took, and the kind of its error (empty: a good answer)."""

    at: float
    took: float = USUAL_S
    error: str = ""


def frame(
    requests: Sequence[Sent], *, source: str = "external client", error_ms: float = 0, clock_ms: float = 0
) -> pd.DataFrame:
    rows = [
        {
            "seq": number,
            "time": None if request.error in tables.NOT_MEASURED else at(request.at),
            "source": source,
            "path": "vip",
            "version": "" if request.error else "v1",
            "time_total_ms": request.took * 1000,
            "error": request.error,
            "time_error_ms": error_ms,
            "clock_error_ms": clock_ms,
        }
        for number, request in enumerate(requests, 1)
    ]
    return tables.from_rows(rows, tables.ANSWERS)


def schedule(seconds: float = 20.0, *, phase_s: float = 0.0) -> list[float]:
    return [phase_s + number * INTERVAL_S for number in range(round(seconds / INTERVAL_S))]


def refused(start: float, end: float, sends: Sequence[float]) -> list[Sent]:
    """Return what happens to requests of a service whose port is closed from ``start`` to ``end``."""
    return [Sent(send, 0.001, "refused") if start <= send < end else Sent(send) for send in sends]


def frozen(start: float, end: float, sends: Sequence[float]) -> list[Sent]:
    """Return what happens to requests of a service that stands still from ``start`` to ``end``, then answers all."""
    told = []
    for send in sends:
        waits = end - send if start - USUAL_S < send < end else 0.0
        told.append(Sent(send, TIMEOUT_S, "timeout") if waits > TIMEOUT_S else Sent(send, waits + USUAL_S))
    return told


def windows(told: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([one.windows.assign(source=one.source) for one in analysis.streams(told)], ignore_index=True)


def only(found: pd.DataFrame) -> pd.Series:
    assert len(found) == 1
    return found.iloc[0]


def downtime(told: pd.DataFrame) -> pd.DataFrame:
    """Return the downtime of nearly all of what was watched: an outage at its very edge has none."""
    return analysis.downtime(told, at(1.15), at(18.95))


def test_an_outage_of_one_version_behind_a_balancer_is_a_window_for_each_request_it_cost() -> None:
    told = [
        Sent(send, 0.001, "http_503") if 5 < send < 6 and n % 2 else Sent(send) for n, send in enumerate(schedule())
    ]
    found = windows(frame(told))
    assert found["failed"].tolist() == [1] * 5
    assert (found["low_s"] == 0).all()
    assert (found["high_s"] <= 0.21).all()


# ---- what is told apart


def test_one_good_and_prompt_answer_ends_a_window_and_none_keeps_it_one() -> None:
    apart = frame(refused(5.0, 5.5, schedule()))
    apart.loc[52, ["error", "version"]] = ["", "v1"]
    assert windows(apart)["failed"].tolist() == [2, 2]
    assert windows(frame(refused(5.0, 5.5, schedule())))["failed"].tolist() == [5]


def test_a_window_counts_what_was_sent_failed_and_slow() -> None:
    found = only(windows(frame(frozen(5.01, 7.96, schedule()), error_ms=3)))
    assert (found["failed"], found["slow"], found["sent"]) == (19, 10, 29)
    assert found["start"] == pytest.approx(at(4.997).timestamp(), abs=1e-6)


def test_a_slow_request_that_others_overtake_proves_no_outage() -> None:
    told = [Sent(send, 0.9 if send == 5.0 else USUAL_S) for send in schedule()]
    found = only(windows(frame(told)))
    assert (found["failed"], found["low_s"]) == (0, 0)
    assert found["high_s"] == pytest.approx(0.205, abs=0.001)


def test_a_service_that_is_always_slow_is_not_down() -> None:
    told = frame([Sent(send, 0.3) for send in schedule()])
    assert windows(told).empty


def test_a_version_far_away_is_not_slow_beside_a_near_one() -> None:
    told = frame([Sent(send, 0.18 if n % 2 else USUAL_S) for n, send in enumerate(schedule())])
    told["version"] = ["v1", "v2"] * (len(told) // 2)
    assert windows(told).empty


def test_sources_are_measured_each_on_its_own() -> None:
    both = pd.concat(
        [frame(refused(5.0, 6.0, schedule()), source="a"), frame([Sent(s) for s in schedule()], source="b")]
    )
    assert windows(both)["source"].tolist() == ["a"]
    assert downtime(both)["windows"].tolist() == [1, 0]


# ---- what was not seen


def test_none_seen_is_reported_as_below_what_the_sends_leave_open() -> None:
    found = only(downtime(frame([Sent(send) for send in schedule()])))
    assert (found["windows"], found["sent"], found["failed"], found["low_ms"]) == (0, 178, 0, 0)
    assert found["high_ms"] == pytest.approx(1000 * (INTERVAL_S + USUAL_S), abs=0.2)


def test_late_dropped_and_lost_requests_and_slow_answers_widen_what_may_be_unseen() -> None:
    told = [Sent(send, error="dropped" if 5 < send < 5.25 else "") for send in schedule()]
    assert only(downtime(frame(told)))["high_ms"] == pytest.approx(305, abs=0.2)
    slow = frame([Sent(send, 0.03) for send in schedule()])
    assert only(downtime(slow))["high_ms"] == pytest.approx(130, abs=0.2)


def test_a_freeze_too_short_to_notice_is_shorter_than_what_is_said_to_be_unseen() -> None:
    told = frame(frozen(5.01, 5.06, schedule()))
    assert windows(told).empty
    assert only(downtime(told))["high_ms"] >= 50


def test_an_outage_without_an_end_or_a_begin_has_no_upper_bound() -> None:
    never_back = only(windows(frame(refused(5.0, 99.0, schedule()))))
    assert never_back["end"] == math.inf
    assert never_back["low_s"] > 14
    never_there = only(windows(frame(refused(0.0, 5.0, schedule()))))
    assert never_there["start"] == -math.inf


def test_lost_rows_say_nothing_for_good_or_ill() -> None:
    told = frame([Sent(send, error="lost" if 5 < send < 6 else "") for send in schedule()])
    assert windows(told).empty
    assert only(downtime(told))["high_ms"] > 1000


def test_nothing_at_all_gives_empty_tables() -> None:
    nothing = tables.empty(tables.ANSWERS)
    assert analysis.streams(nothing) == []
    assert downtime(nothing).empty
    assert analysis.compare_with_truth(nothing, []).empty
    assert pd.isna(only(downtime(frame([Sent(1.5, error="refused")])))["high_ms"])


# ---- unavailable and degraded


def test_an_outage_in_pieces_is_unavailable_for_the_pieces_and_degraded_from_the_first_to_the_last() -> None:
    torn = [
        Sent(send, 0.001, "refused") if 5 < send < 10 and n % 4 else Sent(send) for n, send in enumerate(schedule())
    ]
    found = only(downtime(frame(torn)))
    assert found["windows"] == 13
    assert 150 < found["low_ms"] < found["high_ms"] <= 450, "the longest of them"
    assert 4700 < found["degraded_low_ms"] <= 5000 <= found["degraded_high_ms"] < 5300


def happened(fails: Callable[[float, int], bool]) -> pd.DataFrame:
    """Return the episodes of a watch of 20 s in which these requests were refused."""
    told = [Sent(send, 0.001, "refused") if fails(send, n) else Sent(send) for n, send in enumerate(schedule())]
    return analysis.episodes(frame(told), at(1.15), at(18.95))


def test_no_good_answer_at_all_is_unavailable_and_a_share_of_them_degraded_each_with_its_times() -> None:
    whole, share, one = (
        only(happened(fails))
        for fails in (
            lambda send, _: 5 < send < 8,
            lambda send, n: 5 < send < 10 and n % 10 > 0,
            lambda send, _: 5 < send < 5.15,
        )
    )
    assert (whole["kind"], whole["windows"], whole["failed"], whole["sent"]) == ("unavailable", 1, 29, 29)
    assert 2700 <= whole["low_ms"] <= 3000 <= whole["high_ms"] <= 3200
    assert at(4.85) <= whole["last_good"] <= at(5) < at(8) <= whole["first_good"] <= at(8.15)
    assert (share["kind"], share["windows"], share["failed"], share["sent"]) == ("degraded", 5, 45, 49)
    assert 4500 <= share["low_ms"] <= 5000 <= share["high_ms"] <= 5200
    assert share["longest_high_ms"] <= 1100
    assert (one["kind"], one["failed"], one["low_ms"]) == ("degraded", 1, 0)


def test_a_short_recovery_between_two_outages_is_told_with_both() -> None:
    first, second = happened(lambda send, _: 5 < send < 8 or 8.5 < send < 10).to_dict("records")
    assert [one["kind"] for one in (first, second)] == ["unavailable", "unavailable"]
    assert first["first_good"] <= at(8.2) <= at(8.3) <= second["last_good"]
    assert 2700 <= first["low_ms"] <= first["high_ms"] <= 3200
    assert 1200 <= second["low_ms"] <= second["high_ms"] <= 1700


def test_an_outage_in_one_piece_is_degraded_for_as_long_as_it_is_unavailable() -> None:
    found = only(downtime(frame(refused(5.0, 8.0, schedule()))))
    assert (found["windows"], found["failed"]) == (1, 30)
    assert (found["low_ms"], found["high_ms"]) == (found["degraded_low_ms"], found["degraded_high_ms"])


def test_late_answers_alone_are_no_window_and_what_lies_outside_the_time_is_not_told() -> None:
    late = only(downtime(frame([Sent(send, 0.9 if send == 5.0 else USUAL_S) for send in schedule()])))
    assert (late["windows"], late["low_ms"]) == (0, 0)
    assert late["high_ms"] == pytest.approx(205, abs=1)
    before = only(downtime(frame(refused(0.0, 0.5, schedule()))))
    assert (before["windows"], before["failed"]) == (0, 0)


def test_where_most_requests_were_lost_the_length_is_unknown() -> None:
    told = frame([Sent(send, error="lost" if send > 4 else "") for send in schedule()])
    told["scheduled"] = [at(send) for send in schedule()]
    assert pd.isna(only(downtime(told))["low_ms"])


# ---- clocks


def test_a_clock_error_widens_the_edges_and_not_the_length() -> None:
    told = [frame(refused(5.0, 6.0, schedule()), clock_ms=clock_ms) for clock_ms in (0, 50)]
    plain, vague = (only(analysis.episodes(one, at(1.15), at(18.95))) for one in told)
    assert (vague["low_ms"], vague["high_ms"]) == (plain["low_ms"], plain["high_ms"])
    assert plain["last_good"] - vague["last_good"] == timedelta(milliseconds=50)
    assert vague["first_good"] - plain["first_good"] == timedelta(milliseconds=50)


def test_rows_of_a_closed_loop_are_taken_as_stamped_late_rather_than_early() -> None:
    told = frame(refused(5.0, 6.0, schedule()))
    told["time_error_ms"] = float("nan")
    found = only(windows(told))
    assert found["start"] == pytest.approx(at(4.85).timestamp(), abs=1e-6)
    assert found["high_s"] == pytest.approx(1.155, abs=0.0002)


# ---- calibration


def test_a_measurement_that_is_wrong_is_found_out() -> None:
    told = frame(refused(5.0, 6.0, schedule()))
    longer = only(analysis.compare_with_truth(told, [Fault(name="f", start=at(4.7), end=at(6.0))]))
    assert not longer["within"]
    assert longer["off_ms"] == pytest.approx(200, abs=1)
    unseen = only(analysis.compare_with_truth(told, [Fault(name="f", start=at(10), end=at(11))]))
    assert (unseen["seen"], unseen["within"]) == (False, False)
    assert unseen["off_ms"] == pytest.approx(895, abs=1)


def test_edges_count_even_where_the_length_is_right() -> None:
    shifted = only(
        analysis.compare_with_truth(frame(refused(5.0, 6.0, schedule())), [Fault(name="f", start=at(5.3), end=at(6.3))])
    )
    assert not shifted["within"]


def test_a_truth_that_is_itself_unsure_is_granted_that_much() -> None:
    told = frame(refused(5.0, 6.0, schedule()))
    fault = Fault(name="f", start=at(4.89), end=at(6.0), error_ms=20)
    assert only(analysis.compare_with_truth(told, [fault]))["within"]


def test_a_fault_without_time_zone_or_length_is_refused() -> None:
    for start, end in ((at(1), at(1)), (at(1).replace(tzinfo=None), at(2))):
        with pytest.raises(UsageError):
            Fault(name="f", start=start, end=end)
