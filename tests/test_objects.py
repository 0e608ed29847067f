"""Kubernetes objects as plain dicts: one reading of selectors, readiness and times for helpers and lab."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshbook import objects
from meshbook.errors import UsageError


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=hello", True),
        ("app==hello, version=v1", True),
        ("app!=hello", False),
        ("tier!=web", True),
        ("app in (hello,other)", True),
        ("version notin (v1, v2)", False),
        ("app", True),
        ("!tier", True),
        ("!app", False),
        ("app=hello,version in (v2,v3)", False),
    ],
)
def test_a_selector_reads_as_kubectl_reads_it(text: str, matches: bool) -> None:
    assert objects.label_selector(text)({"app": "hello", "version": "v1"}) is matches


@pytest.mark.parametrize("text", ["app=a=b", "app in hello", "=", "app,,b"])
def test_an_unreadable_selector_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read") as refusal:
        objects.label_selector(text)
    assert "app=x" in refusal.value.hint


def test_a_label_selector_object_becomes_the_same_text_and_matches_alike() -> None:
    expressions = [
        {"key": "version", "operator": "In", "values": ["v1", "v2"]},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"app": "hello"}, "matchExpressions": expressions}
    assert objects.selector_text(selector) == "app=hello,version in (v1,v2),!old"
    assert objects.selects(selector, {"app": "hello", "version": "v2"})
    assert not objects.selects(selector, {"app": "hello", "version": "v2", "old": ""})
    assert objects.selects({}, None)
    assert not objects.selects(None, {"app": "hello"})


def test_a_pod_that_is_being_deleted_is_neither_ready_nor_active() -> None:
    pod = {"metadata": {}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert objects.is_ready(pod)
    assert objects.is_active(pod)
    pod["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    assert not objects.is_ready(pod)
    assert not objects.is_active(pod)


def test_times_are_written_and_read_as_the_api_does() -> None:
    moment = datetime(2024, 5, 6, 7, 8, 9, 120, UTC)
    assert objects.timestamp(moment) == "2024-05-06T07:08:09Z"
    assert objects.micro_timestamp(moment) == "2024-05-06T07:08:09.000120Z"
    assert objects.moment_of(objects.micro_timestamp(moment)) == moment


def test_who_wrote_a_part_of_an_object_last_is_told_with_how_and_when() -> None:
    def entry(manager: str, time: str, part: str, **more: str) -> dict[str, Any]:
        return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": {"f:spec": {part: {}}}, **more}

    fields = [
        entry("old", "2026-01-02T12:00:00Z", "f:replicas"),
        entry("kubectl", "2026-01-02T12:00:05Z", "f:replicas", subresource="scale"),
        entry("other", "2026-01-02T12:00:09Z", "f:template"),
    ]
    found = {"metadata": {"managedFields": fields}}
    assert objects.last_writer(found, "replicas") == "kubectl (Update of scale, 2026-01-02T12:00:05Z)"
    assert objects.last_writer({"metadata": {}}, "replicas").startswith("somebody whom")
