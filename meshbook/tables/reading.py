"""Frames and texts made to be read, by people who need no address."""

from __future__ import annotations

import ipaddress
import re

import pandas as pd

from meshbook.tables.answers import ANSWERS
from meshbook.tables.frames import conform

_V4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w)(?!\.\d)")
_MAYBE_V6 = re.compile(r"(?<![\w:])[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:]*(?!\w)")


def to_display(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of ANSWERS cut down to what a reader needs: no address, times as clock and whole 0.1 ms."""
    answers = conform(answers, ANSWERS)
    clock = answers["time"].dt.strftime("%H:%M:%S.%f").str[:-3]
    total = ["" if pd.isna(ms) else f"{ms:.1f}" for ms in answers["time_total_ms"].tolist()]
    shown = pd.DataFrame({"time (UTC)": clock.fillna(""), "total ms": pd.Series(total, dtype="string")})
    columns = ["source", "path", "seq", "version", "instance", "code", "error"]
    texts = {name: answers[name].astype("string").fillna("") for name in columns}
    return shown.assign(**texts)[["time (UTC)", *columns, "total ms"]]


def without_addresses(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of any frame in which IP addresses inside texts are replaced by ``<address>``."""
    hidden = answers.copy()
    for name in hidden.columns:
        if pd.api.types.is_string_dtype(hidden[name].dtype) or hidden[name].dtype == object:
            hidden[name] = hidden[name].map(lambda value: hide_addresses(value) if isinstance(value, str) else value)
    return hidden


def hide_addresses(text: str) -> str:
    """Return ``text`` with ``<address>`` for every IP address."""
    return _MAYBE_V6.sub(_hide_v6, _V4.sub("<address>", text))


def _hide_v6(match: re.Match[str]) -> str:
    try:
        ipaddress.IPv6Address(match[0])
    except ValueError:
        return match[0]
    return "<address>"
