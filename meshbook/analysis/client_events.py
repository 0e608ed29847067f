"""The phases that callers notice, told by the requests that they sent. Pure.

Where the record does not say which version is away, each source shows it: those that answered before the outage and no
more at its end. Where a link is cut, the two sides miss different versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.analysis import shares
from meshbook.analysis.shares import Share
from meshbook.analysis.trial_record import OUTAGE, RESTORE, Row, TrialRecord, row

STAMP_MS = 50.0
"""How far a row that does not say so may be from the moment of its sending."""
MOST_ERROR_MS = 1000.0
"""A request that is not known better than this tells of no phase: its sender was silent itself."""
EVERYBODY = "all sources"

LAST, FAILED, SURVIVOR = "last answer of the stopped side", "first failure", "survivor answers"
STABLE = "only the survivor answers"
FIRST, SHARE_UNCHANGED = "first answer again", "share unchanged"
_SETTLED = 5
"""Answers of the survivor without a break that are called stable."""


def going(record: TrialRecord) -> Iterator[Row]:
    """Yield for each source: last answer, first failure, first good answer of the survivor after it, share stable.

    Told by what had ended when the outage did: a request that waited until its end says nothing about its begin.
    """
    for source, rows in _sources(record):
        sent = _sent(rows, record.outage.asked, record.end)
        during = sent[_ended(sent) < record.end]
        gone, stays = versions(record, rows)
        bad = _first(during[during["error"] != ""])
        last = _last(_of(during, gone)) if gone else None
        yield _last_answer(source, last, gone)
        yield _first_failure(source, bad, during)
        if gone:
            since = next((found["time"] for found in (bad, last) if found is not None), record.outage.accepted)
            survivors = _of(during[during["time"] > since], stays)
            yield _answered(OUTAGE, SURVIVOR, source, _first(survivors), stays)
            yield _stable(source, sent, stays)


def coming_back(record: TrialRecord) -> Iterator[Row]:
    """Yield for each source the first answer of the side that was away; then when its share was as before."""
    for source, rows in _sources(record):
        gone, _ = versions(record, rows)
        if gone:
            yield _answered(RESTORE, FIRST, source, _first(_of(rows[_is_back(record, rows)], gone)), gone)
        else:
            yield row(RESTORE, FIRST, source, detail="no version was away")
    yield _share_back(record)


def _is_back(record: TrialRecord, rows: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows ended after the way back was open; where pods are replaced, only new ones are back."""
    late = _ended(rows) >= record.restore.accepted
    if record.ended_at is None:
        return late
    old = set(rows.loc[rows["time"] < record.outage.asked, "instance"])
    return late & ~rows["instance"].isin(old)


def _ended(rows: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    return rows["time"] + pd.to_timedelta(rows["time_total_ms"].astype("float64").fillna(0.0), unit="ms")


def versions(record: TrialRecord, rows: pd.DataFrame) -> tuple[set[str], set[str]]:
    """Return the versions that a source lost, and those that it kept: as told, else by who answered late."""
    good = tables.good(rows)
    before = set(good.loc[good["time"] < record.outage.asked, "version"])
    if record.version:
        return before & {record.version}, before - {record.version}
    middle = record.outage.asked + (record.end - record.outage.asked) / 2
    late = set(_sent(good, middle, record.end)["version"])
    return before - late, late


def _last_answer(source: str, last: Any, gone: set[str]) -> Row:
    if not gone:
        return row(OUTAGE, LAST, source, detail="no version went away for it")
    if last is None:
        return row(OUTAGE, LAST, source, detail=f"none from {_names(gone)} after the request")
    return _request(OUTAGE, LAST, source, last, f"{last['version']} by {last['instance']}")


def _first_failure(source: str, bad: Any, during: pd.DataFrame) -> Row:
    if bad is None:
        return row(OUTAGE, FAILED, source, detail=f"none in {len(during)} requests")
    count = int((during["error"] != "").sum())
    return _request(OUTAGE, FAILED, source, bad, f"{count} of {len(during)} requests failed; the first: {bad['error']}")


def _stable(source: str, during: pd.DataFrame, stays: set[str]) -> Row:
    """Return from when on only the survivor answered, without a failure, until the end of the outage."""
    fine = [error == "" and version in stays for error, version in zip(during["error"], during["version"], strict=True)]
    length = next((place for place, good in enumerate(reversed(fine)) if not good), len(fine))
    if length < _SETTLED:
        return row(OUTAGE, STABLE, source, detail=f"not seen: {length} such answers in a row at its end")
    return _request(OUTAGE, STABLE, source, during.iloc[-length], f"all {length} from {_names(stays)} until its end")


def _share_back(record: TrialRecord) -> Row:
    """Return from when on the share of the side that was away is as before, all sources together."""
    parts = [(rows, versions(record, rows)[0]) for _, rows in _sources(record)]
    concerned = [
        rows.assign(hit=rows["version"].isin(gone), back=_is_back(record, rows)) for rows, gone in parts if gone
    ]
    if not concerned:
        return row(RESTORE, SHARE_UNCHANGED, EVERYBODY, detail="no version was away")
    answers = pd.concat(concerned).sort_values("time", ignore_index=True)
    before = answers[answers["time"] < record.outage.asked]
    again = answers.loc[answers["hit"] & answers["back"], "time"]
    after = answers[answers["time"] >= (record.restore.asked if again.empty else again.iloc[0])]
    baseline, all_after = (Share(k=int(some["hit"].sum()), n=len(some)) for some in (before, after))
    found = shares.back_from(baseline, after["hit"].tolist(), record.margin)
    if found is None:
        low, high = (100 * end for end in shares.difference(baseline, all_after))
        detail = f"not proved: {baseline} before, {all_after} after, {low:+.0f} to {high:+.0f} points"
        return row(RESTORE, SHARE_UNCHANGED, EVERYBODY, detail=detail)
    place, share = found
    detail = f"{baseline} before, {share} from then on, the same within {100 * record.margin:.0f} points"
    return _request(RESTORE, SHARE_UNCHANGED, EVERYBODY, after.iloc[place], detail)


def _sources(record: TrialRecord) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield what each source is known to have sent, and when, in the order of sending."""
    known = tables.measured(record.answers).dropna(subset=["time"]).sort_values("time")
    errors = known[["time_error_ms", "clock_error_ms"]].astype("float64").fillna(0.0).sum(axis=1)
    known = known[errors <= MOST_ERROR_MS]
    for source, rows in known.groupby("source", sort=True):
        yield str(source), rows


def _sent(rows: pd.DataFrame, since: datetime, until: datetime | None) -> pd.DataFrame:
    inside = rows["time"] >= since
    return rows[inside & (rows["time"] < until)] if until is not None else rows[inside]


def _of(rows: pd.DataFrame, names: set[str]) -> pd.DataFrame:
    """Return the good answers of some versions."""
    return rows[(rows["error"] == "") & rows["version"].isin(names)]


def _first(rows: pd.DataFrame) -> Any:
    return None if rows.empty else rows.iloc[0]


def _last(rows: pd.DataFrame) -> Any:
    return None if rows.empty else rows.iloc[-1]


def _names(some: set[str]) -> str:
    return " and ".join(sorted(some)) or "nobody"


def _answered(part: str, phase: str, source: str, found: Any, who: set[str]) -> Row:
    if found is None:
        return row(part, phase, source, detail=f"none from {_names(who)}")
    return _request(part, phase, source, found, f"{found['version']} by {found['instance']}")


def _request(part: str, phase: str, source: str, sent: Any, detail: str) -> Row:
    """Return a phase that a request tells: it was sent within its bounds, and ended after its length."""
    errors = [float(sent[name]) for name in ("time_error_ms", "clock_error_ms") if not pd.isna(sent.get(name))]
    error = timedelta(milliseconds=sum(errors) if errors else STAMP_MS)
    length = timedelta(milliseconds=0.0 if pd.isna(sent["time_total_ms"]) else float(sent["time_total_ms"]))
    begin = sent["time"].to_pydatetime()
    return row(part, phase, source, not_before=begin - error, not_after=begin + error + length, detail=detail)
