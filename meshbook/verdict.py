"""A verdict: what was claimed, what came out, and the numbers that it rests on; and which outcome is worse.

Made by ``analysis``, ``preflight`` and ``experiment``, shown by ``notebook`` and ``report``. Light to import, since
commands that judge nothing use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Final, Literal

from meshbook.language import translate, translate_html

Outcome = Literal["pass", "fail", "inconclusive"]
"""What came out of a claim."""
State = Literal["pass", "fail", "inconclusive", "error", "interrupted", "skipped"]
"""How a notebook ended: with the outcome of its claims, or without one."""
PASS: Final = "pass"
FAIL: Final = "fail"
INCONCLUSIVE: Final = "inconclusive"

WORST_FIRST: tuple[State, ...] = ("interrupted", "error", FAIL, INCONCLUSIVE, PASS)
"""States by severity; one that was skipped was so for another's sake."""

Detail = Mapping[str, str | int | float | None]
"""One part of the evidence by name."""

REFUSED: Final = "would be refused"
"""Name, in a claim's details, of what stands against that which a dry run has planned."""

DRY_RUN: Final = "dry run"
"""What is shown in the place of a pass where nothing was measured and a plan was drawn."""

_COLOURS: Mapping[str, str] = {PASS: "#0072b2", FAIL: "#b3470e", INCONCLUSIVE: "#6b6b6b", DRY_RUN: "#6b6b6b"}
_STYLE = "border-left:6px solid {colour};padding:4px 12px;margin:6px 0;max-width:60em"
_WORD_STYLE = "color:#fff;background:{colour};padding:0 6px;print-color-adjust:exact"
"""White on the colour is read on light and dark pages alike, and needs its ground on paper too."""


def counted(count: int, thing: str) -> str:
    """Return ``1 pod``, or ``2 pods``."""
    return f"{count} {thing}{'s' if count != 1 else ''}"


def worst(outcomes: Iterable[str], otherwise: State = INCONCLUSIVE) -> State:
    """Return the outcome of a whole from those of its parts: one fail fails it, one doubt leaves it open."""
    present = set(outcomes)
    return next((state for state in WORST_FIRST if state in present), otherwise)


def measured_text(claim: Mapping[str, Any]) -> str:
    """Return what a claim measured as text: ``50 % (30 to 70)``, or only a range, ``0 to 0.14 s``, or nothing."""
    estimate, low, high, unit = (claim[name] for name in ("estimate", "low", "high", "unit"))
    found = "" if estimate is None else f"{estimate:g} {unit}".strip()
    ends = "" if low is None or high is None else f"{low:g} to {high:g}"
    return f"{found} ({ends})" if found and ends else found or f"{ends} {unit if ends else ''}".strip()


def numbers_text(claim: Mapping[str, Any]) -> str:
    """Return what a claim measured, its limit and n in one line, as far as there are any."""
    limit, n = claim["limit"] and f"limit {claim['limit']}", claim["n"] and f"n = {claim['n']}"
    return ", ".join(str(part) for part in (measured_text(claim), limit, n) if part)


def worst_first(claims: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return claims in the order in which they are to be read: what did not pass comes first."""
    return sorted(claims, key=lambda claim: WORST_FIRST.index(claim["outcome"]))


def overall(outcome: str, claims: Iterable[Mapping[str, Any]]) -> str:
    """Return one line for all claims: ``PASS, 7 of 7``, or ``FAIL, 5 of 7 claims passed (1 fail, 1 inconclusive)``.

    The plans of a dry run are told before them, and are none of them.
    """
    claims = list(claims)
    plans = sum(is_plan(claim) for claim in claims)
    found = Counter(claim["outcome"] for claim in claims if not is_plan(claim))
    others = ", ".join(f"{found[one]} {one}" for one in WORST_FIRST if one != PASS and found[one])
    total = found.total()
    counts = f"{found[PASS]} of {counted(total, 'claim')} passed" if total else "no claim was reached"
    told = f"{outcome.upper()}, {counts}" + (f" ({others})" if others else "")
    if not plans:
        return told
    drawn = f"{DRY_RUN.upper()}: nothing was taken down, {counted(plans, 'plan')} drawn"
    return f"{drawn}; {told}" if total or outcome != PASS else drawn


def is_plan(claim: Mapping[str, Any]) -> bool:
    """Say whether a claim is only what a dry run has planned; one of an older meshbook does not tell."""
    return bool(claim.get("planned"))


def shown(state: str, claims: Iterable[Mapping[str, Any]]) -> str:
    """Return the word that is shown for ``state``: no pass where a plan was drawn and nothing done."""
    return DRY_RUN if state == PASS and any(map(is_plan, claims)) else state


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One claim judged. ``estimate``, ``low`` and ``high`` are in ``unit`` and not finer than what was measured."""

    claim: str
    outcome: Outcome
    reason: str
    """Why this outcome, in a sentence or two."""
    n: int = 0
    """Requests that the verdict rests on; 0 where it rests on none."""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    limit: str = ""
    """What the interval was compared with."""
    unit: str = ""
    details: tuple[Detail, ...] = ()
    """The parts of the evidence, one row each (per source, say)."""
    planned: bool = False
    """Whether it is only a dry run's plan, of which nothing was done."""

    @property
    def numbers(self) -> str:
        """Estimate, interval, limit and n in one line, as far as there are any."""
        return numbers_text(vars(self))

    @property
    def shown(self) -> str:
        return shown(self.outcome, [vars(self)])

    def __str__(self) -> str:
        text = "\n  ".join(filter(None, (f"{self.shown.upper()}: {self.claim}", self.reason, self.numbers)))
        return translate(text)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        colour = _COLOURS[self.shown]
        word = f'<b style="{_WORD_STYLE.format(colour=colour)}">{self.shown.upper()}</b>'
        table = ""
        if self.details:
            import pandas as pd

            from meshbook.tables import to_html

            table = to_html(pd.DataFrame(list(self.details)))
        numbers = f"<br><small>{escape(self.numbers)}</small>" if self.numbers else ""
        lines = f"{word} · <b>{escape(self.claim)}</b><br>{escape(self.reason)}{numbers}"
        return translate_html(f'<div style="{_STYLE.format(colour=colour)}">{lines}{table}</div>')

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, fit for JSON."""
        return {**asdict(self), "details": [dict(row) for row in self.details]}
