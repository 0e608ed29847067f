"""What happened in which order in one trial: the phases of the outage and of the restore, each between two times. Pure.

Out of a ``TrialRecord`` comes a frame of ``tables.PHASES``: what API servers showed (``observations``), and what the
requests of each client tell. A phase that was not seen is a row without times that says why. No effect is earlier than
its request, so no range begins before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.analysis.observations import NOT_READY, READY, UNREACHABLE, Change

OUTAGE, RESTORE = "outage", "restore"
"""Parts of a trial; each has phases of its own."""

REQUESTED, RESTORE_REQUESTED = "request accepted", "restore request accepted"
ENDPOINTS_GONE, CLUSTER_DOWN = "endpoints gone", "API server unreachable"
LAST, SURVIVOR = "last answer of the stopped side", "only the survivor answers"
FAILED, LAST_FAILED = "first failure", "last failure"
CLUSTER_UP, REPLICAS, REPLICAS_READY = "API server reachable again", "replicas back", "replicas ready"
ENDPOINTS_BACK, FIRST = "endpoints back", "first answer again"

_MOST_ERROR_MS = 1000.0
"""A request that is not known better than this tells of no phase: its sender stood still itself."""
_USED = ["time", "source", "cluster", "instance", "time_total_ms", "error", "time_error_ms", "clock_error_ms"]
_SETTLED = 5
"""Answers of the survivor without a break by which it is known to have taken over."""

Row = dict[str, Any]
"""A row of PHASES in the making."""
Times = tuple[datetime, datetime]


@dataclass(frozen=True, kw_only=True)
class ChangeRequest:
    """Something was asked of an API server: asked at, and known to be accepted at. This machine's clock."""

    asked: datetime
    accepted: datetime


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """All that is known of one trial."""

    mode: str
    context: str
    """The cluster in which it was done."""
    trial: int
    outage: ChangeRequest
    restore: ChangeRequest
    answers: pd.DataFrame
    """ANSWERS from before the outage until after it."""
    changes: Sequence[Change]
    contexts: Sequence[str]
    """All clusters that were watched."""
    stopped: str = ""
    """The cluster whose application is down for everybody; empty where each source is to show which ones it misses."""
    ended_at: datetime | None = None
    """When the outage was over for clients, where nobody had to request that: ``restore.asked`` by default."""

    @property
    def end(self) -> datetime:
        return self.ended_at or self.restore.asked


def phases(record: TrialRecord) -> pd.DataFrame:
    """Return PHASES: outage and restore, as API servers and as clients saw them."""
    where, clients = _api(record.context), list(_clients(record))
    requests = {OUTAGE: record.outage, RESTORE: record.restore}
    rows = [
        _row(OUTAGE, REQUESTED, where, "", (record.outage.asked, record.outage.accepted)),
        *_servers_down(record),
        *(row for client in clients for row in _client_notices(record, client)),
        _row(RESTORE, RESTORE_REQUESTED, where, "", (record.restore.asked, record.restore.accepted)),
        *_servers_back(record),
        *(_answers_again(record, client) for client in clients),
    ]
    fixed = {"mode": record.mode, "context": record.context, "trial": record.trial}
    numbered = (fixed | {"number": n} | _since(row, requests[row["part"]]) for n, row in enumerate(rows, start=1))
    return tables.from_rows(numbered, tables.PHASES)


def phases_to_display(found: pd.DataFrame) -> pd.DataFrame:
    """Return PHASES for people: milliseconds from the request of their part, as a range."""
    found = tables.conform(found, tables.PHASES)
    names = {"mode": "mode", "context": "at", "trial": "trial", "part": "part", "phase": "phase", "place": "seen by"}
    shown = found[list(names)].rename(columns=names)
    shown["ms from the request"] = [
        "" if pd.isna(high) else f"{1000 * low:.0f} to {1000 * high:.0f}"
        for low, high in zip(found["low_s"], found["high_s"], strict=True)
    ]
    return pd.concat([shown, found[["detail"]]], axis=1)


def _row(part: str, phase: str, place: str, detail: str, times: Times | None = None) -> Row:
    row = {"part": part, "phase": phase, "place": place, "detail": detail}
    return row | (dict(zip(("not_before", "not_after"), times, strict=True)) if times else {})


def _since(row: Row, request: ChangeRequest) -> Row:
    """Return a row with its range cut at its request, and told in seconds from that as well."""
    if "not_after" not in row:
        return row
    end = max(row["not_after"], request.asked)
    begin = min(max(row["not_before"], request.asked), end)
    low, high = ((moment - request.asked).total_seconds() for moment in (begin, end))
    return {**row, "not_before": begin, "not_after": end, "low_s": low, "high_s": high}


# ---- what API servers show


def _api(context: str) -> str:
    return f"API server of {context}"


def _servers_down(record: TrialRecord) -> Iterator[Row]:
    """Yield for each cluster when none of the endpoints of before was left, and when an API server went down."""
    for context in record.contexts:
        yield _endpoints_gone(record, context)
    for context in record.contexts:
        down = (each for each in _changes(record, context, "api", record.outage.asked) if each.after == UNREACHABLE)
        if row := _seen(OUTAGE, CLUSTER_DOWN, context, down):
            yield row


def _servers_back(record: TrialRecord) -> Iterator[Row]:
    """Yield when API servers were back, and when the cluster had its replicas, had them ready, and listed them."""
    for context in record.contexts:
        up = (each for each in _changes(record, context, "api", record.outage.asked) if each.before == UNREACHABLE)
        if row := _seen(RESTORE, CLUSTER_UP, context, up):
            yield row
    since, context = record.restore.asked, record.context
    pods = _changes(record, context, "pods", since)
    listed = (each for each in _changes(record, context, "endpoints", since) if set(each.after) - set(each.before))
    for phase, found in (
        (REPLICAS, (each for each in pods if _count(each.after) > _count(each.before))),
        (REPLICAS_READY, (each for each in pods if _count(each.after, READY) > _count(each.before, READY))),
        (ENDPOINTS_BACK, listed),
    ):
        yield _seen(RESTORE, phase, context, found) or _row(RESTORE, phase, _api(context), "unchanged")


def _endpoints_gone(record: TrialRecord, context: str) -> Row:
    during = [one for one in _changes(record, context, "endpoints", record.outage.asked) if one.not_after < record.end]
    original = set(during[0].before) if during else set()
    gone = (change for change in during if original and not original & set(change.after))
    why = f"changed to {', '.join(during[-1].after)}" if during else "unchanged all the time"
    api = _changes(record, context, "api", record.outage.asked)
    if not during and any(each.after == UNREACHABLE for each in api if each.not_after < record.end):
        why = "not known: its API server was unreachable"
    return _seen(OUTAGE, ENDPOINTS_GONE, context, gone) or _row(OUTAGE, ENDPOINTS_GONE, _api(context), why)


def _changes(record: TrialRecord, context: str, subject: str, since: datetime) -> list[Change]:
    of_it = (change for change in record.changes if (change.context, change.subject) == (context, subject))
    return [change for change in of_it if change.not_after >= since]


def _seen(part: str, phase: str, context: str, found: Iterable[Change]) -> Row | None:
    """Return the phase that the first of ``found`` shows; None where there is none."""
    change = next(iter(found), None)
    if change is None:
        return None
    detail = ", ".join(change.after) or "none"
    return _row(part, phase, _api(context), detail, (change.not_before, change.not_after))


def _count(state: Sequence[str], *words: str) -> int:
    """Count pods in a state; without a word, those that are to stay."""
    return sum(one.rpartition(": ")[2] in (words or (READY, NOT_READY)) for one in state)


# ---- what clients notice


@dataclass(frozen=True, kw_only=True)
class _Client:
    source: str
    rows: pd.DataFrame
    """What it is known to have sent, and when, in that order, with a column ``ended``."""
    gone: set[str]
    """Clusters that it lost: as the record says, else those that answered before the outage and not late in it."""
    stays: set[str]


def _clients(record: TrialRecord) -> Iterator[_Client]:
    known = tables.measured(record.answers[_USED]).dropna(subset=["time"]).sort_values("time")
    known = known[
        known["time_error_ms"].astype("float64").fillna(0.0) + tables.clock_errors_ms(known) <= _MOST_ERROR_MS
    ]
    middle = record.outage.asked + (record.end - record.outage.asked) / 2
    known = known.assign(ended=tables.ended(known))
    for source in (one for one in record.answers["source"].unique() if one in set(known["source"])):
        rows = known[known["source"] == source]
        good = tables.good(rows)
        before = set(good.loc[good["time"] < record.outage.asked, "cluster"].unique())
        late = set(good.loc[good["time"].between(middle, record.end, inclusive="left"), "cluster"].unique())
        gone = before & {record.stopped} if record.stopped else before - late
        yield _Client(source=str(source), rows=rows, gone=gone, stays=(before | late) - gone)


def _client_notices(record: TrialRecord, client: _Client) -> Iterator[Row]:
    """Yield the last answer of who is gone, the first and last failure, and since when the survivor alone answers.

    Who took over and what fails are told apart: a survivor that fails late has carried the service before. Told by what
    had ended when the outage did: a request that waited until its end says nothing about its begin.
    """
    source, gone, rows = client.source, client.gone, client.rows
    sent = rows[rows["time"].between(record.outage.asked, record.end, inclusive="left")]
    during = sent[sent["ended"] < record.end]
    last, bad = _of(during, gone).tail(1), during[during["error"] != ""]
    none = "none after the request" if gone else "no cluster went down for it"
    yield _told(OUTAGE, LAST, source, last, none)
    some = f"{len(bad)} of {len(during)} requests failed; the first: {bad['error'].iloc[0]}" if len(bad) else ""
    yield _told(OUTAGE, FAILED, source, bad, f"none in {len(during)} requests", some)
    if len(bad) > 1:
        yield _told(OUTAGE, LAST_FAILED, source, bad.tail(1), "", bad["error"].iloc[-1])
    if gone:
        later = during[during["time"] > last["time"].iloc[0]] if len(last) else during
        fine = (later["error"] == "") & later["cluster"].isin(client.stays)
        settled = later[(fine[::-1].astype("int64").rolling(_SETTLED).sum() == _SETTLED)[::-1]]
        count = int(fine[later["time"] >= settled["time"].min()].sum())
        all_of_them = f"all {count} from {_names(client.stays)} until its end"
        never = f"not seen: never {_SETTLED} such answers in a row"
        yield _told(OUTAGE, SURVIVOR, source, settled, never, all_of_them)


def _answers_again(record: TrialRecord, client: _Client) -> Row:
    """Return the first answer of the side that was down."""
    none = f"none from {_names(client.gone)}" if client.gone else "no cluster was down"
    again = _of(client.rows[_is_back(record, client.rows)], client.gone)
    return _told(RESTORE, FIRST, client.source, again, none)


def _is_back(record: TrialRecord, rows: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows ended after the restore was accepted; where pods are replaced, only new ones are back."""
    late = rows["ended"] >= record.restore.accepted
    if record.ended_at is None:
        return late
    return late & ~rows["instance"].isin(rows.loc[rows["time"] < record.outage.asked, "instance"].unique())


def _of(rows: pd.DataFrame, clusters: set[str]) -> pd.DataFrame:
    """Return the good answers of some clusters."""
    return rows[(rows["error"] == "") & rows["cluster"].isin(clusters)]


def _names(clusters: set[str]) -> str:
    return " and ".join(sorted(clusters)) or "nobody"


def _told(part: str, phase: str, place: str, found: pd.DataFrame, none: str, some: str = "") -> Row:
    """Return a phase that the first row of ``found`` tells: sent within its errors, ended after its length."""
    if found.empty:
        return _row(part, phase, place, none)
    row = found.iloc[0]
    earlier, later = (float(errors.iloc[0]) for errors in tables.stamp_errors_ms(found))
    clock = float(tables.clock_errors_ms(found).iloc[0])
    times = row["time"] - timedelta(milliseconds=earlier + clock), row["ended"] + timedelta(milliseconds=later + clock)
    return _row(part, phase, place, some or f"{row['cluster']} by {row['instance']}", times)
