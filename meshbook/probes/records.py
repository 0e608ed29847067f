"""What curl is told for many requests, and what its records come to: rows of ``tables.ANSWERS``. Pure.

curl 7.84 and newer will do. Each request leaves its body, then one line,
``URL#NONCE-SEQ|code|exit code|connect|first byte|total|size|address|message|URL#NONCE-SEQ``. The fragment is never sent
to a server, so no answer can forge a record; both ends of a line must agree, so no cut goes unnoticed. Who runs it is
``curl``.
"""

from __future__ import annotations

import math
import re
import secrets
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pandas as pd

from meshbook import tables
from meshbook.errors import UsageError
from meshbook.probes.outcomes import NOT_REACHED, Outcome, Outcomes, is_answer, one_line, outcome, to_frame
from meshbook.settings import REQUEST_S

_FIELDS = ("http_code", "exitcode", "time_connect", "time_starttransfer", "time_total", "size_download", "remote_ip")
_SHAPES = (r"\d{3}", r"\d{1,3}", r"\d{1,6}\.\d{6}", r"\d{1,6}\.\d{6}", r"\d{1,6}\.\d{6}", r"\d{1,15}", r"[\d.:A-Fa-f]*")
_VALUES = r"\|".join(f"(?P<{name}>{shape})" for name, shape in zip(_FIELDS, _SHAPES, strict=True)) + r"\|(?P<said>.*)"
_FORMAT = "%{stderr}\\n%{url}|" + "".join(f"%{{{name}}}|" for name in _FIELDS) + "%{errormsg}|%{url}\\n"
_SIDE_BY_SIDE = """n=$1 last=$2 url=$3; shift 3
while [ "$n" -le "$last" ]; do
  { out=$("$@" "$url$n" 2>&1); printf '%s\\n' "$out"; } &
  [ $((n % 20)) -ne 0 ] || wait
  n=$((n + 1))
done
wait"""
"""A curl for each number from $1 to $2, twenty at once: the article's loop, and little for a pod's memory.

Each is told whole, so that the records of two that end together do not mix."""
TIMED_OUT = 28
"""curl's exit code of a transfer that took all its time."""
_DAMAGED = Outcome(tables.GARBLED, "the probe's record of this transfer is damaged")

Told = tuple[Outcome, list[float]]
"""How a transfer ended, and its moments: those of ``outcomes.RECORD`` from ``sent`` on; none where it is not known."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is sent: ``requests`` transfers, numbered from 1, one after the other as long as none is known to hang."""

    url: str
    requests: int
    timeout_s: float = REQUEST_S
    """Longest time of one transfer; one that takes longer is an error row."""
    connect_timeout_s: float = 2.0
    at_once: bool = False
    """Side by side from the first on: it is known that some hang."""
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            fit = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
        except ValueError:
            fit = False
        if not fit or re.search(r"[\s|\"'<>\\^`\x00-\x1f\x7f#]", self.url):
            raise UsageError(f"not a URL to ask: {self.url!r}", hint="http://name:port/path, without user and fragment")
        if self.requests < 1:
            raise UsageError(f"at least one request is needed, not {self.requests}")
        if not self.timeout_s > 0 or not self.connect_timeout_s > 0:
            raise UsageError("time-outs are above 0 s")

    @property
    def numbers(self) -> range:
        return range(1, self.requests + 1)

    @property
    def longest_s(self) -> float:
        """Upper bound of the time that all transfers take together."""
        return self.requests * (self.timeout_s + 0.05) + 5


def command(ask: Ask, first: int = 1, *, direct: bool = False) -> list[str]:
    """Return the argv of one curl for the transfers of ``ask`` from number ``first`` to the first one that fails.

    Its records come on stderr, unbuffered, right after each body. ``Connection: close`` gives each transfer a
    connection of its own, as the article's loop of single curls has. ``direct`` goes past any proxy that the
    environment names. An HTTP error is no failure of a transfer.
    """
    url, *curl = _url_and_curl(ask, direct)
    return [*curl, "--fail-early", f"{url}[{first}-{ask.requests}:1]"]


def article_loop(ask: Ask) -> str:
    """Return the loop of curls that the article would write for ``ask``, as a line for a shell."""
    curl = shlex.join(["curl", "-sS", "--max-time", f"{ask.timeout_s:g}", ask.url])
    return f"for i in $(seq 1 {ask.requests}); do {curl}; done" if ask.requests > 1 else curl


def side_by_side(ask: Ask, first: int, *, direct: bool = False) -> list[str]:
    """Return the argv of a shell for the transfers of ``ask`` from number ``first`` on, each by a curl of its own."""
    url, *curl = _url_and_curl(ask, direct)
    return ["/bin/sh", "-c", _SIDE_BY_SIDE, "sh", str(first), str(ask.requests), url, *curl]


def _url_and_curl(ask: Ask, direct: bool) -> list[str]:
    """Return the URL without the number at its end, then the curl that asks it."""
    escaped = re.sub(r"([\[\]{}])", r"\\\1", ask.url)
    limits = ["--max-time", f"{ask.timeout_s:g}", "--connect-timeout", f"{min(ask.connect_timeout_s, ask.timeout_s):g}"]
    shape = ["-q", "--silent", "--no-buffer", "--http1.1", "--header", "Connection: close", "--write-out", _FORMAT]
    past_proxies = ["--noproxy", "*"] if direct else []
    return [f"{escaped}#{ask.nonce}-", "curl", *shape, *limits, *past_proxies]


def last_record(lines: Sequence[str], ask: Ask) -> tuple[int, int]:
    """Return the number of the last transfer that ``lines`` tell of (0: none), and curl's exit code for it."""
    pattern = re.compile(rf"{re.escape(f'{ask.url}#{ask.nonce}-')}(\d{{1,9}})\|\d{{3}}\|(\d{{1,3}})\|")
    found = next(filter(None, map(pattern.match, reversed(lines))), None)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def parse_records(
    text: str, ask: Ask, *, source: str, path: str, arrivals: Sequence[float] = (), note: str = ""
) -> pd.DataFrame:
    """Return one row of ANSWERS for each transfer of ``ask``; ``text`` is the merged stdout and stderr of its curls.

    ``arrivals[i]`` is the Unix time at which line i of ``text`` was complete at the reader. curl before 8.16 can stamp
    nothing, so ``time`` is arrival minus total time: never early, and late by what the line took to get here (one way,
    and the reader's delay) unless a later record, in order, proves it earlier. Without an arrival it is missing.
    The transfers after one that took all its time are not in order: they were sent side by side.
    Records that never came become rows marked ``lost``, damaged ones ``garbled``; ``note`` (what the exec said, say) or
    the text's last line becomes their detail.
    """
    found: dict[int, Told] = {}
    for number, told in _records(text, ask, arrivals):
        if number not in found or found[number][0].error == tables.GARBLED:  # the first good one counts, else the last
            found[number] = told
    hung = [number for number, (became, _) in found.items() if became.error == tables.TIMEOUT]
    alone = 0 if ask.at_once else min([ask.requests, *(number + 1 for number in hung)])
    latest = math.inf
    for number in range(alone, 0, -1):  # each began before the next one, by its own length
        moments = found[number][1] if number in found else []
        if moments and not math.isnan(moments[0]):
            latest = moments[0] = min(moments[0], latest - moments[-1] / 1e6)
    outcomes, lost = Outcomes(), Outcome(tables.LOST, one_line(note) or _last_words(text, ask))
    for number in ask.numbers:
        outcomes.add(number, *found.get(number, (lost, [])))
    return to_frame(outcomes.records, outcomes.kinds, source=source, path=path, url=ask.url)


def _records(text: str, ask: Ask, arrivals: Sequence[float]) -> Iterator[tuple[int, Told]]:
    """Yield number and content of the records that ``text`` holds, whole ones and damaged ones, in their order."""
    mark = re.escape(f"{ask.url}#{ask.nonce}-")
    whole = re.compile(rf"{mark}(?P<seq>\d{{1,9}})\|{_VALUES}\|{mark}(?P=seq)")
    begun = re.compile(rf"{mark}(\d{{1,9}})\|")
    body: list[str] = []  # bodies and records take turns: what lies before a record is its body
    for at, line in enumerate(text.split("\n")):
        values = whole.fullmatch(line) if ask.nonce in line else None
        found = values or (begun.search(line) if ask.nonce in line else None)
        if not found or int(found[1]) not in ask.numbers:
            body.append(line)
            continue
        told = _told(values, "\n".join(body), arrivals[at] if at < len(arrivals) else math.nan) if values else None
        yield int(found[1]), told or (_DAMAGED, [])
        body = []


def _told(values: re.Match[str], body: str, arrival: float) -> Told:
    came, size = body.encode(), int(values["size_download"])
    became = outcome(
        int(values["http_code"]),
        int(values["exitcode"]),
        came[-size:].decode("utf-8", "replace") if size else "",
        values["said"],
        values["remote_ip"],
        whole=size <= len(came),
    )
    connect_us, first_us, total_us = (
        round(1e6 * float(values[name])) for name in ("time_connect", "time_starttransfer", "time_total")
    )
    # curl's 0 says that a transfer did not come so far
    return became, [arrival - total_us / 1e6, 0, connect_us or NOT_REACHED, first_us or NOT_REACHED, total_us]


def _last_words(text: str, ask: Ask) -> str:
    """Return what came last and is neither record nor answer, such as ``sh: curl: not found``."""
    lines = [line for line in text.splitlines() if line.strip() and ask.nonce not in line and not is_answer(line)]
    return one_line(lines[-1]) if lines else "no record of this transfer came back"
