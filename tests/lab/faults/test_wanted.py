"""What is asked for is understood in full, or refused; a record goes to JSON and back whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from meshbook.errors import LabError
from meshbook.lab.faults import Edge, Moment, Record, Wanted
from meshbook.lab.faults.wanted import record_from_json, wanted_from_json

POD: dict[str, Any] = {"kind": "freeze", "context": "cluster1", "pod": "web-0"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([], "at least a kind"),
        ({"kind": "freeze"}, "at least a kind"),
        ({**POD, "kind": "melt"}, "no fault 'melt'"),
        ({**POD, "duration": 3}, "has no duration"),
        ({**POD, "for_s": "3"}, "cannot be"),
        ({**POD, "for_s": 0}, "between 0 and"),
        ({**POD, "for_s": 1e9}, "between 0 and"),
        ({**POD, "for_s": True}, "cannot be True"),
        ({**POD, "pod": 7}, "cannot be 7"),
        ({**POD, "selector": "app=web"}, "either a pod or a selector"),
        ({"kind": "freeze", "context": "cluster1"}, "either a pod or a selector"),
        ({"kind": "link-cut", "context": "cluster1", "direction": "up"}, "no direction"),
    ],
)
def test_what_cannot_be_understood_is_refused(given: Any, complaint: str | None) -> None:
    with pytest.raises(LabError, match=complaint):
        wanted_from_json(given)


def test_a_selector_is_labels_or_refused() -> None:
    wanted = Wanted(kind="freeze", context="c", selector="app=web,version=v1")
    assert wanted.labels() == {"app": "web", "version": "v1"}
    for text in ("app", "app==web", "=web", "app!=web,"):
        with pytest.raises(LabError, match="cannot read the selector"):
            Wanted(kind="freeze", context="c", selector=text).labels()


def test_a_record_goes_to_json_and_back_and_knows_how_long_the_fault_was_on() -> None:
    def edge(first: float, last: float) -> Edge:
        moments = [Moment(wall="2026-01-01T00:00:00.000000+00:00", monotonic_s=at) for at in (first, last)]
        return Edge(not_before=moments[0], not_after=moments[1])

    record = Record(
        id="fault-1",
        kind="freeze",
        context="c",
        targets=("c/n/p/app",),
        by="",
        for_s=1.0,
        began=edge(1.0, 1.25),
        ended=edge(3.0, 3.5),
        why_ended="duration",
    )
    assert record_from_json(json.loads(json.dumps(record.to_json()))) == record
    assert (record.shortest_s, record.longest_s) == (1.75, 2.5)
    assert not record.is_on
