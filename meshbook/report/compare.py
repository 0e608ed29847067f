"""Two runs side by side: verdicts that changed, numbers with their intervals, parameters and versions that differ.

From executed notebooks alone. Numbers have changed where their intervals do not overlap, else they are not told apart.
Where a claim's limits differ, both are told, and that the second allows more.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshbook.language import padded, translate
from meshbook.report.collect import Report
from meshbook.report.scale import limits_of
from meshbook.verdict import DRY_RUN, PASS, WORST_FIRST, measured_text, shown

_LONE_NUMBER = re.compile(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.])")
"""A limit that is written in a claim, which parameters change; not the number of a cluster or a version."""
_NOT_ASKED = "not asked"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One claim in both runs, or how a notebook ended in both. An outcome is ``not asked`` where it is in one only."""

    stage: str
    claim: str
    """Empty for the notebook as a whole."""
    before: str
    after: str
    numbers: str = ""
    is_looser: bool = False
    """Whether the second run's limit allows what the first one's did not, so that the outcomes are not comparable."""

    @property
    def is_worse(self) -> bool:
        """Whether what passed, or did better, does not any more; what one run only asked, or planned, is neither."""
        return {_NOT_ASKED, DRY_RUN}.isdisjoint((self.before, self.after)) and _severity(self.after) < _severity(
            self.before
        )

    @property
    def is_changed(self) -> bool:
        return self.before != self.after

    def __str__(self) -> str:
        """Return it in one line: what came out in both, of what, and the numbers."""
        outcome = " → ".join(map(translate, dict.fromkeys((self.before, self.after))))
        about = f"{self.stage}: {translate(self.claim)}" if self.claim else translate(f"{self.stage} as a whole")
        return f"{padded(outcome, 22)}  {about}" + (f": {translate(self.numbers)}" if self.numbers else "")


def _severity(state: str) -> int:
    """Return a state's place, worst first; a notebook that was skipped or broke off found nothing out."""
    return WORST_FIRST.index(state) if state in WORST_FIRST else -1


def changes(before: Report, after: Report) -> list[Change]:
    """Return every claim and notebook of either run, what got worse first, then other changes and looser limits."""
    found = [*_stages(before, after), *_claims(before, after)]
    return sorted(found, key=lambda one: (not one.is_worse, not one.is_changed, not one.is_looser))


def differences(before: Report, after: Report) -> list[str]:
    """Return in lines which versions, clusters and parameters differ, as far as both runs tell them."""
    both = {stage.name for stage in before.stages} & {stage.name for stage in after.stages}
    one, other = (_circumstances(report, both) for report in (before, after))
    return [f"{name}: {one[name]} → {other[name]}" for name in one if name in other and one[name] != other[name]]


def _circumstances(report: Report, stages: Collection[str]) -> dict[str, Any]:
    place = report.place or {}
    found = {name: place[name] for name in ("meshbook", "python") if name in place}
    for number, cluster in enumerate(place.get("clusters", []), 1):
        facts = {"context": cluster["context"], "lab": cluster["lab"], "provider": cluster["provider"]}
        facts |= {"Kubernetes": cluster["kubernetes"], "mesh": ", ".join(cluster["mesh"])}
        found |= {f"cluster {number} {name}": value for name, value in facts.items()}
    values = (stage.parameters.items() for stage in report.stages if stage.name in stages)
    return found | {f"parameter {name}": value for items in values for name, value in items}


def _stages(before: Report, after: Report) -> Iterator[Change]:
    states = [{stage.name: stage.shown for stage in report.stages} for report in (before, after)]
    for name in dict.fromkeys([*states[0], *states[1]]):
        yield Change(
            stage=name, claim="", before=states[0].get(name, _NOT_ASKED), after=states[1].get(name, _NOT_ASKED)
        )


def _claims(before: Report, after: Report) -> Iterator[Change]:
    known = [_by_key(report) for report in (before, after)]
    for key in dict.fromkeys([*known[0], *known[1]]):
        one, other = (found.get(key) for found in known)
        known_of = other or one or {}
        yield Change(
            stage=key[0],
            claim=str(known_of["claim"]),
            before=shown(str(one["outcome"]), [one]) if one else _NOT_ASKED,
            after=shown(str(other["outcome"]), [other]) if other else _NOT_ASKED,
            numbers=", ".join(filter(None, (_numbers(one, other), _limits(one, other))))
            if one and other
            else measured_text(known_of),
            is_looser=bool(one and other and _is_looser(one, other)),
        )


def _by_key(report: Report) -> dict[tuple[str, str, int], Mapping[str, Any]]:
    """Return the claims by what both runs have in common: a cluster's context, whatever it is called."""
    found: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    contexts = {one.get("name", one["context"]): one["context"] for one in (report.place or {}).get("clusters", [])}
    names = re.compile(
        "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(contexts, key=len)[::-1]) or r"(?!)"
    )
    for stage in report.stages:
        for claim in stage.claims:
            text = names.sub(lambda name: str(contexts[name[0]]), str(claim["claim"]))
            text, number = _LONE_NUMBER.sub("#", text), 0
            while (stage.name, text, number) in found:
                number += 1
            found[stage.name, text, number] = claim
    return found


def _numbers(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if one["low"] is None or other["low"] is None or one["high"] is None or other["high"] is None:
        texts = [text for text in map(measured_text, (one, other)) if text]
        return " → ".join(dict.fromkeys(texts))
    apart = one["low"] > other["high"] or other["low"] > one["high"]
    if _is_detection_limit(one) and _is_detection_limit(other):
        return f"detection limit {one['high']:g} → {other['high']:g} {other['unit']}, not told apart"
    return f"{measured_text(one)} → {measured_text(other)}, {'changed' if apart else 'not told apart'}"


def _limits(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if one["limit"] == other["limit"]:
        return ""
    return f"{'looser ' * _is_looser(one, other)}limit {one['limit'] or 'none'} → {other['limit'] or 'none'}"


def _is_looser(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether ``other`` allows what ``one`` does not: more, or a range that reaches further at either end."""
    before, after = limits_of(one), limits_of(other)
    if len(before) != len(after) or one["unit"] != other["unit"]:
        return False
    return bool(before) and (after[-1] > before[-1] or (after[0] < before[0] and len(after) > 1))


def _is_detection_limit(claim: Mapping[str, Any]) -> bool:
    """Say whether nothing was seen: a time from 0 on, without an estimate."""
    return claim["estimate"] is None and claim["low"] == 0 and claim["unit"] == "s" and claim["outcome"] == PASS
