"""Every DataFrame that leaves a package: its columns, their dtypes and meanings; frames of such tables, and for people.

A new table is declared here first, with the package that writes it. What does not fit a declaration is refused. Nothing
is measured, judged or drawn here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal

import pandas as pd

from meshbook.errors import UsageError

Dtype = Literal["datetime64[us, UTC]", "string", "Int64", "float64", "boolean"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name, its pandas dtype, and what a value means."""

    name: str
    dtype: Dtype
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A declared table: columns in their order."""

    name: str
    columns: tuple[Column, ...]
    optional: frozenset[str] = frozenset()
    """Columns that rows which are kept in files may lack; they are missing then."""

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


def _declared(name: str, *columns: tuple[str, Dtype, str]) -> Table:
    return Table(name=name, columns=tuple(Column(name=n, dtype=d, meaning=m) for n, d, m in columns))


GATEWAY = "gateway"
"""Begin of the path of requests to an ingress gateway's pod by its own address."""

_WAY: tuple[tuple[str, Dtype, str], ...] = (
    ("source", "string", "who asked: the context's name, or 'external client' for this machine"),
    ("path", "string", "which way: 'mesh' (service name inside the mesh), 'vip' (from outside), or 'gateway POD'"),
)

# ---- requests: written by ``probes``

LOST, GARBLED, DROPPED = "lost", "garbled", "dropped"
NOT_MEASURED = frozenset({LOST, GARBLED, DROPPED})
"""Errors of the probe itself: such a row says nothing about the service, for good or ill."""

UNKNOWN = "unknown"
"""The cluster of an answer whose instance is a pod of none of those that were asked for their pods."""

_STAMP_ERROR_MS = 50.0
"""How long before its ``time`` a request may have been sent where its row does not say: curl stamps its rows late."""

_REQUESTS = _declared(
    "answers",
    ("time", "datetime64[us, UTC]", "when the request was sent; missing when the probe's record of it was lost"),
    ("seq", "Int64", "number of the request within its source, from 1"),
    *_WAY,
    ("url", "string", "what was asked for"),
    ("version", "string", "version that answered; empty unless the answer is good"),
    ("instance", "string", "pod that answered; empty unless the answer is good"),
    ("code", "Int64", "HTTP status; missing when there was no HTTP answer"),
    ("exit_code", "Int64", "curl's exit code of this transfer; missing when the probe's record was lost"),
    ("time_connect_ms", "float64", "until the connection stood (to the proxy where there is one); 0: it did before"),
    ("time_starttransfer_ms", "float64", "until the first byte of the answer"),
    ("time_total_ms", "float64", "until the last byte, or until the transfer was given up"),
    ("remote_ip", "string", "address that curl was connected to"),
    ("error", "string", "empty for a good answer, else its kind: http_503, timeout, … (lost, garbled: no result)"),
    ("detail", "string", "what curl or the probe said about the error"),
    ("scheduled", "datetime64[us, UTC]", "when it was to be sent; missing where each waits for the one before"),
    ("late_ms", "float64", "how much later than scheduled it was sent"),
    ("time_error_ms", "float64", "it was sent at most this long before or after ``time``, by its sender's clock"),
    ("clock_error_ms", "float64", "that clock was at most so far off this machine's; the same for all of one source"),
    ("cluster", "string", "cluster whose pod answered, or 'unknown'; empty unless the answer is good and looked up"),
)
ANSWERS = replace(_REQUESTS, optional=frozenset({"cluster"}))

SENDS = _declared(
    "sends",
    *_WAY,
    ("scheduled", "Int64", "requests that were to be sent"),
    ("sent", "Int64", "requests that are known to have been sent"),
    ("dropped", "Int64", "requests that were not sent, since their time had passed"),
    ("over_limit", "Int64", "those of them that were not sent since as many as may be were in flight already"),
    ("lost", "Int64", "requests of which nothing is known: the record of them did not arrive whole"),
    ("late", "Int64", "requests sent more than one interval after their time"),
    ("late_median_ms", "float64", "how late the middle one was"),
    ("late_p99_ms", "float64", "how late 99 in 100 were at most"),
    ("late_max_ms", "float64", "how late the worst was"),
)

CLOCKS = _declared(
    "clocks",
    ("source", "string", "whose clock"),
    ("offset_ms", "float64", "how far it is ahead of this machine's (a clock that counts from its boot is far behind)"),
    ("bound_ms", "float64", "how wrong that can be"),
    ("round_trip_ms", "float64", "time from question to answer of the best exchange"),
    ("exchanges", "Int64", "questions answered"),
)


def measured(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS that say something about the service, good or bad."""
    return answers[~answers["error"].isin(NOT_MEASURED)]


def good(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS with a good answer."""
    return answers[answers["error"] == ""]


def of_gateways(answers: pd.DataFrame) -> pd.Series[bool]:
    """Tell of each row of ANSWERS whether an ingress gateway was asked by its own address."""
    return answers["path"].str.startswith(GATEWAY)


def by_whom(answers: pd.DataFrame) -> pd.Series[str]:
    """Return who gave each answer, for people: its cluster, with every version that came from there.

    ``answers`` has the columns cluster, version and error; where clusters were not looked up it is the version alone.
    """
    known = good(answers)[["cluster", "version"]].drop_duplicates().sort_values(["cluster", "version"])
    versions = known[known["cluster"] != ""].groupby("cluster")["version"].agg(", ".join)
    labels = {cluster: f"{cluster} ({found})" for cluster, found in versions.items()}
    return answers["cluster"].map(labels).astype("string").fillna(answers["version"])


def stamp_errors_ms(answers: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return by how much earlier and how much later than ``time`` each request may have been sent, by its clock."""
    error = answers["time_error_ms"].astype("float64")
    return error.fillna(_STAMP_ERROR_MS), error.fillna(0.0)


def clock_errors_ms(answers: pd.DataFrame) -> pd.Series[float]:
    """Return how far each request's clock may be off this machine's; one that does not say is this machine's."""
    return answers["clock_error_ms"].astype("float64").fillna(0.0)


# ---- who answered whom, by which way and when: made by ``analysis``

COVERAGE = _declared(
    "coverage",
    *_WAY,
    ("part", "string", "'before' an outage, 'during' or 'after' it"),
    ("cluster", "string", "whose pods should have answered"),
    ("version", "string", "the version there"),
    ("n", "Int64", "requests with a result: each could have been answered by that cluster"),
    ("good", "Int64", "good answers of that cluster's pods"),
    ("state", "string", "'proven', 'refuted', 'undecided' (too few), 'not tested', or 'none expected' (and none came)"),
)

# ---- how long a service was unavailable, each length a range: made by ``analysis`` and ``experiment``

WINDOWS = _declared(
    "windows",
    *_WAY,
    ("number", "Int64", "number of the window within its source and path, from 1"),
    ("kind", "string", "'failed' when a request got no good answer, 'slow' when all got one, but late"),
    ("last_good", "datetime64[us, UTC]", "it was available until then at least; missing: never seen before"),
    ("first_bad", "datetime64[us, UTC]", "it was unavailable from then on at the latest"),
    ("last_bad", "datetime64[us, UTC]", "it was unavailable until then at least"),
    ("first_good", "datetime64[us, UTC]", "it was available again by then at the latest; missing: never seen again"),
    ("low_ms", "float64", "it was unavailable for at least this long"),
    ("high_ms", "float64", "it was unavailable for at most this long; missing: its begin or its end was not seen"),
    ("sent", "Int64", "requests sent between last_good and first_good"),
    ("failed", "Int64", "those of them without a good answer"),
    ("slow", "Int64", "those of them with a good answer, but a late one"),
)

CALIBRATION = _declared(
    "calibration",
    ("fault", "string", "what was done to the service"),
    *_WAY,
    ("true_ms", "float64", "how long the service was unavailable in truth"),
    ("seen", "boolean", "whether a window shows it"),
    ("low_ms", "float64", "measured: unavailable for at least this long"),
    ("high_ms", "float64", "measured: at most this long; missing: its begin or its end was not seen"),
    ("within", "boolean", "whether the true length, begin and end all lie in the measured ranges"),
    ("off_ms", "float64", "how far the worst of them lies outside; 0 when within"),
    ("width_ms", "float64", "width of the measured range of the length"),
)

DOWNTIME = _declared(
    "downtime",
    *_WAY,
    ("sent", "Int64", "requests with a result, sent in the time in question"),
    ("failed", "Int64", "those of them without a good answer"),
    ("windows", "Int64", "separate times without any good answer; 0: none seen"),
    ("low_ms", "float64", "the longest time without any good answer was at least this long"),
    ("high_ms", "float64", "and at most this long, seen or not: with no window, the detection limit"),
    ("degraded_low_ms", "float64", "from the first failure to the end of the last one, at least; missing: none"),
    ("degraded_high_ms", "float64", "the same, at most; good answers may lie in between"),
)

_EPISODE: tuple[tuple[str, Dtype, str], ...] = (
    ("source", "string", "who noticed"),
    ("path", "string", "which way"),
    ("number", "Int64", "number of the episode within its source and path, from 1"),
    ("kind", "string", "'unavailable': no good answer at all; 'degraded': a share of the requests failed"),
    ("last_good", "datetime64[us, UTC]", "all was well until then at least; missing: never seen before"),
    ("first_good", "datetime64[us, UTC]", "all was well again by then; missing: never seen again"),
    ("low_ms", "float64", "it went on for at least this long"),
    ("high_ms", "float64", "and at most this long; missing: its begin or its end was not seen"),
    ("failed", "Int64", "requests without a good answer in that time"),
    ("sent", "Int64", "requests sent in that time"),
    ("windows", "Int64", "times without any good answer in it"),
    ("longest_low_ms", "float64", "the longest of these was at least this long"),
    ("longest_high_ms", "float64", "and at most this long"),
)
EPISODES = _declared("episodes", *_EPISODE)

_TRIAL: tuple[tuple[str, Dtype, str], ...] = (
    ("mode", "string", "failure mode"),
    ("context", "string", "cluster that it was done in"),
    ("trial", "Int64", "which time it was done, from 1"),
)

_LATE: tuple[str, Dtype, str] = ("late", "Int64", "good answers that took longer than a caller calls prompt")

TRIALS = Table(
    name="trials", columns=(*_declared("", *_TRIAL).columns, *DOWNTIME.columns, *_declared("", _LATE).columns)
)

TRIAL_EPISODES = _declared("trial episodes", *_TRIAL, *_EPISODE)

SUMMARY = _declared(
    "summary",
    *_TRIAL[:2],
    ("source", "string", "who asked"),
    ("n", "Int64", "how many trials there were"),
    ("seen", "Int64", "in how many of them a time without any good answer was seen by this source"),
    ("median_low_ms", "float64", "of each trial's longest time without one, the middle one is at least this"),
    ("median_high_ms", "float64", "and at most this; missing: the end of an outage was not seen"),
    ("low_ms", "float64", "the shortest of them is at least this"),
    ("high_ms", "float64", "the longest of them is at most this; missing: the end of an outage was not seen"),
    ("degraded_low_ms", "float64", "median of the times from the first to the last failure, at least; missing: none"),
    ("degraded_high_ms", "float64", "the same, at most"),
    ("failed", "Int64", "requests without a good answer, in all of them together"),
    _LATE,
    ("sent", "Int64", "requests sent during all of them together"),
)

LOAD = _declared(
    "load",
    *_TRIAL,
    ("part", "string", "'before' the outage, 'during' or 'after' it"),
    ("offered_per_s", "float64", "requests sent per second, by all sources together"),
    ("served_per_s", "float64", "good answers per second of the side that survives"),
    ("median_ms", "float64", "how long the middle one of these took; missing: none"),
    ("p90_ms", "float64", "how long nine in ten of them took at most"),
    ("utilisation", "float64", "served_per_s as a share of what that side was measured to bear; missing: not measured"),
)

# ---- what happened when in a trial: made by ``analysis``

PHASES = _declared(
    "phases",
    *_TRIAL,
    ("number", "Int64", "number of the row, from 1"),
    ("part", "string", "'outage' or 'restore'"),
    ("phase", "string", "what happened"),
    ("place", "string", "who saw it: an API server, or a source of requests"),
    ("not_before", "datetime64[us, UTC]", "it happened at this moment at the earliest; missing: it was not seen"),
    ("not_after", "datetime64[us, UTC]", "it happened at this moment at the latest"),
    ("low_s", "float64", "seconds from the request of its part at the least"),
    ("high_s", "float64", "seconds from the request of its part at the most"),
    ("detail", "string", "who or how many, or why there is no time"),
)

# ---- what saved the requests: ACCESS is read by ``experiment``, ATTRIBUTION made by ``analysis``

ACCESS = _declared(
    "access",
    ("time", "datetime64[us, UTC]", "when the proxy got the request, by its own clock"),
    ("context", "string", "cluster of the proxy"),
    ("pod", "string", "pod of the proxy"),
    ("role", "string", "sidecar or gateway"),
    ("hop", "string", "outbound (on behalf of a client), inbound, passthrough (east-west), or unrouted"),
    ("path", "string", "path of the request; empty where the proxy saw none"),
    ("code", "Int64", "HTTP status that the proxy answered with; missing for a connection without HTTP"),
    ("flags", "string", "Envoy's response flags; empty where nothing was amiss"),
    ("details", "string", "Envoy's response code details"),
    ("attempts", "Int64", "how many times the request was sent on; missing where the log does not tell"),
    ("upstream", "string", "same network or other network; empty where it was sent to nobody"),
    ("service", "string", "host name of the service that it was for, as far as the log names one"),
    ("duration_ms", "float64", "until the last byte of the answer"),
    ("request_id", "string", "the request's own name, the same at every proxy on its way"),
)

ATTRIBUTION = _declared(
    "attribution",
    ("layer", "string", "what can save a request: endpoints, clients' proxies, gateways, the load balancer"),
    ("context", "string", "in which cluster"),
    ("requests", "Int64", "requests for the service that its proxies sent on during the outage"),
    ("at_once", "Int64", "good answers without a second try; missing where the log does not count tries"),
    ("by_retry", "Int64", "good answers after more than one try; missing where the log does not count tries"),
    ("not_saved", "Int64", "requests without a good answer"),
    ("to_other", "Int64", "good answers from the other network, through its east-west gateway"),
    ("did", "string", "what it did, in words"),
    ("known_by", "string", "where that is known from, and what is not known"),
)

# ---- frames of declared tables


def empty(table: Table) -> pd.DataFrame:
    """Return a frame of ``table`` without rows."""
    return pd.DataFrame({column.name: pd.Series([], dtype=column.dtype) for column in table.columns})


def conform(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Return ``frame`` with exactly the columns and dtypes of ``table``; UsageError says what does not fit."""
    absent = [name for name in table.names if name not in frame.columns]
    missing = [name for name in absent if name not in table.optional]
    unknown = [str(name) for name in frame.columns if name not in table.names]
    if missing or unknown:
        raise UsageError(
            f"this is no table of {table.name}",
            hint=f"its columns are {', '.join(table.names)}",
            missing=", ".join(missing),
            unknown=", ".join(unknown),
        )
    frame = frame.assign(**dict.fromkeys(absent)) if absent else frame
    # what fits is not copied: a claim on a day of requests would else take longer to look at them than to judge
    misfits = [column for column in table.columns if not _fits(frame[column.name], column)]
    cast = {column.name: _cast(frame[column.name], column, table) for column in misfits}
    return frame.reset_index(drop=True).assign(**cast)[table.names]


def _fits(series: pd.Series[Any], column: Column) -> bool:
    return str(series.dtype) == column.dtype and not (column.dtype == "string" and series.hasnans)


def _cast(series: pd.Series[Any], column: Column, table: Table) -> pd.Series[Any]:
    series = series.reset_index(drop=True)
    try:
        if column.dtype == "string":
            return series.astype("string").fillna("")
        if column.dtype.startswith("datetime64"):
            return pd.to_datetime(series, utc=True).astype(column.dtype)
        return series.astype(column.dtype)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"column {column.name} of table {table.name} holds something else than {column.dtype}",
            hint=column.meaning,
            said=str(error)[:200],
        ) from error


def from_rows(rows: Iterable[Mapping[str, object]], table: Table) -> pd.DataFrame:
    """Return ``rows`` as a frame of ``table``; a value that a row lacks is missing."""
    records = [dict(row) for row in rows]
    stray = sorted({name for record in records for name in record} - set(table.names))
    if stray:
        raise UsageError(f"table {table.name} has no column {', '.join(stray)}")
    columns = {column.name: [record.get(column.name) for record in records] for column in table.columns}
    return conform(pd.DataFrame(columns, columns=table.names, dtype="object"), table)


# ---- for people


def frame(records: Iterable[object]) -> pd.DataFrame:
    """Return frozen dataclass records of one kind, one row each, for display: texts for whatever is nested."""
    rows = list(records)
    kinds = {type(row) for row in rows}
    if len(kinds) > 1 or not all(map(is_dataclass, kinds)):
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UsageError(f"a frame is made of dataclass records of one kind, not of {names}")
    columns = [field.name for row in rows[:1] for field in fields(row)]  # type: ignore[arg-type]
    return pd.DataFrame({column: [_cell(getattr(row, column)) for row in rows] for column in columns})


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(_cell(item)) for item in value)
    return value


def joined(*answers: pd.DataFrame) -> pd.DataFrame:
    """Return several rounds of ANSWERS as one, numbered on within each source."""
    rows = conform(pd.concat(answers, ignore_index=True), ANSWERS)
    rows["seq"] = (rows.groupby("source").cumcount() + 1).astype("Int64")
    return rows.sort_values(["source", "seq"], ignore_index=True)


def to_display(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of ANSWERS cut down to what a reader needs: no address, times as clock and whole 0.1 ms."""
    answers = conform(answers, ANSWERS)
    clock = answers["time"].dt.strftime("%H:%M:%S.%f").str[:-3]
    total = ["" if pd.isna(ms) else f"{ms:.1f}" for ms in answers["time_total_ms"].tolist()]
    shown = pd.DataFrame({"time (UTC)": clock.fillna(""), "total ms": pd.Series(total, dtype="string")})
    columns = ["source", "path", "seq", "version", "instance", "cluster", "code", "error"]
    texts = {name: answers[name].astype("string").fillna("") for name in columns}
    return shown.assign(**texts)[["time (UTC)", *columns, "total ms"]]
