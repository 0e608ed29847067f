"""Requests and their answers: tables that ``probes`` writes, and what everybody asks of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from meshbook.tables.frames import Dtype, conform, declared

OUTSIDE = "external client"
"""Source of requests that the machine of the runbook sends."""
VIP, BALANCER, ADDRESS = "vip", "load balancer", "address"
"""Paths from outside: by a MultiClusterIngress, by a Service of each cluster, by an address of somebody's own."""
GATEWAY = "gateway"
"""Begin of the path of requests to an ingress gateway's pod by its own address."""

WAY: tuple[tuple[str, Dtype, str], ...] = (
    ("source", "string", "who asked: a cluster by its name, or 'external client' (via CLUSTER) for this machine"),
    ("path", "string", "'mesh' (by service name), 'gateway POD', or from outside: 'vip', 'load balancer', 'address'"),
)

TIMEOUT = "timeout"
"""Error of a request that took all its time: it may hang, where others have failed at once."""
LOST, GARBLED, DROPPED = "lost", "garbled", "dropped"
NOT_MEASURED = frozenset({LOST, GARBLED, DROPPED})
"""Errors of the probe itself: such a row says nothing about the service, for good or ill."""

UNKNOWN = "unknown"
"""The cluster of an answer whose instance is a pod of none of those that were asked for their pods."""

_STAMP_ERROR_MS = 50.0
"""How long before its ``time`` a request may have been sent where its row does not say: curl stamps its rows late."""

ANSWERS = declared(
    "answers",
    ("time", "datetime64[us, UTC]", "when the request was sent; missing when the probe's record of it was lost"),
    ("seq", "Int64", "number of the request within its source, from 1"),
    *WAY,
    ("url", "string", "what was asked for"),
    ("version", "string", "version that answered; empty unless the answer is good"),
    ("instance", "string", "pod that answered; empty unless the answer is good"),
    ("code", "Int64", "HTTP status; missing when there was no HTTP answer"),
    ("exit_code", "Int64", "curl's exit code of this transfer; missing when the probe's record was lost"),
    ("time_connect_ms", "float64", "until the connection stood (to the proxy where there is one)"),
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


def measured(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS that say something about the service, good or bad."""
    return answers[~answers["error"].isin(NOT_MEASURED)]


def good(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS with a good answer."""
    return answers[answers["error"] == ""]


def late(answers: pd.DataFrame, slow_after_s: float) -> pd.Series[bool]:
    """Tell of each row of ANSWERS whether its answer was good, and took longer than ``slow_after_s``."""
    return (answers["error"] == "") & (answers["time_total_ms"].astype("float64") > 1000 * slow_after_s)


def ended(answers: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """Return when each request ended; when it was sent, where its length is not known."""
    return answers["time"] + pd.to_timedelta(answers["time_total_ms"].astype("float64").fillna(0.0), unit="ms")


def unix_s(times: pd.Series[pd.Timestamp]) -> npt.NDArray[np.float64]:
    """Return times as Unix times in seconds; NaN for those that are missing."""
    return np.where(times.isna(), np.nan, times.astype("int64").to_numpy() / 1e6)


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


def joined(*answers: pd.DataFrame) -> pd.DataFrame:
    """Return several rounds of ANSWERS as one, source by source in the order of the first, each numbered on."""
    rows = conform(pd.concat(answers, ignore_index=True), ANSWERS)
    rows["seq"] = (rows.groupby("source").cumcount() + 1).astype("Int64")
    places = {source: place for place, source in enumerate(rows["source"].unique())}
    return rows.sort_values("source", key=lambda names: names.map(places), kind="stable", ignore_index=True)


def to_display(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of ANSWERS cut down to what a reader needs: no address, times as clock and whole 0.1 ms."""
    answers = conform(answers, ANSWERS)
    columns = ["source", "path", "seq", "version", "instance", "cluster", "code", "error"]
    shown = answers[columns].assign(**{"total ms": answers["time_total_ms"].round(1)})
    shown.insert(0, "time (UTC)", answers["time"].dt.strftime("%H:%M:%S.%f").str[:-3])
    return shown.astype(object).where(shown.notna(), "")
