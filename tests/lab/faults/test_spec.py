"""What is asked for is understood in full, or refused; a record goes to JSON and back whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from meshbook.errors import MeshbookError
from meshbook.lab.faults import Edge, FaultRecord, FaultSpec, Moment

POD: dict[str, Any] = {"kind": "freeze", "context": "cluster1", "pod": "web-0"}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([], "no fault that the lab understands"),
        ({"kind": "freeze"}, "missing .* 'context'"),
        ({**POD, "kind": "melt"}, "no fault 'melt'"),
        ({**POD, "duration": 3}, "unexpected .* 'duration'"),
        ({**POD, "for_s": "3"}, "no fault that the lab understands"),
        ({**POD, "for_s": 0}, "between 0 and"),
        ({**POD, "for_s": 1e9}, "between 0 and"),
        ({**POD, "selector": "app=web"}, "either a pod or a selector"),
        ({"kind": "freeze", "context": "cluster1"}, "either a pod or a selector"),
        ({"kind": "freeze", "context": "cluster1", "selector": "=web"}, "cannot read"),
        ({"kind": "link-cut", "context": "cluster1", "direction": "up"}, "no direction"),
    ],
)
def test_what_cannot_be_understood_is_refused(given: Any, complaint: str) -> None:
    with pytest.raises(MeshbookError, match=complaint):
        FaultSpec.of(given)


def test_a_record_goes_to_json_and_back_and_knows_how_long_the_fault_was_on() -> None:
    def edge(first: float, last: float) -> Edge:
        moments = [Moment(wall="2026-01-01T00:00:00.000000+00:00", monotonic_s=at) for at in (first, last)]
        return Edge(not_before=moments[0], not_after=moments[1])

    fields: dict[str, Any] = {"id": "fault-1", "kind": "freeze", "context": "c", "targets": ("c/n/p/app",), "by": ""}
    record = FaultRecord(**fields, for_s=1.0, began=edge(1.0, 1.25), ended=edge(3.0, 3.5), why_ended="duration")
    assert FaultRecord.of(json.loads(json.dumps(asdict(record)))) == record
    assert (record.shortest_s, record.longest_s, record.is_on) == (1.75, 2.5, False)
