"""Jobs as the API server keeps them: what it fills in, refuses and prints, and what their deletion does."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]
JOBS = "/apis/batch/v1/namespaces/default/jobs"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def job(api: Any, policy: str = "Never", **spec: Any) -> Json:
    body = {"template": {"spec": api.pod(restartPolicy=policy)["spec"]}, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": body}


async def test_pods_of_a_job_are_marked_with_its_name_and_uid(api: Any) -> None:
    made = await api.made(JOBS, job(api))
    uid, spec = made["metadata"]["uid"], made["spec"]
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    marks = {"job-name": "work", "controller-uid": uid}
    marks |= {f"batch.kubernetes.io/{name}": value for name, value in marks.items()}
    assert spec["template"]["metadata"]["labels"] == made["metadata"]["labels"] == marks
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"], spec["suspend"]) == (1, 1, 6, False)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("backoffLimit", -1, "must be greater than or equal to 0"),
        ("parallelism", 2, "the lab does Jobs with 1 only"),
        ("completions", 3, "the lab does Jobs with 1 only"),
        ("suspend", True, "the lab does Jobs with False only"),
        ("podFailurePolicy", {"rules": []}, "the lab does not do this"),
        ("selector", {"matchLabels": {"app": "other"}}, "`selector` does not match template `labels`"),
    ],
)
async def test_what_a_job_cannot_be_is_refused(api: Any, field: str, value: Any, words: str) -> None:
    refused = await api("POST", JOBS, job(api, **{field: value}))
    assert (refused.code, refused.reason) == (422, "Invalid")
    assert words in refused.message


async def test_a_pod_of_a_job_ends(api: Any) -> None:
    refused = await api("POST", JOBS, job(api, "Always"))
    wanted = 'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"'
    assert (refused.code, wanted in refused.message) == (422, True)


async def test_the_template_is_immutable_and_applying_it_again_changes_nothing(api: Any) -> None:
    options = {"fieldManager": "t", "type": api.APPLY}
    first = await api("PATCH", f"{JOBS}/work", job(api), **options)
    again = await api("PATCH", f"{JOBS}/work", job(api), **options)
    assert (first.code, again.code, first.version) == (201, 200, again.version)
    change = {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}
    refused = await api("PATCH", f"{JOBS}/work", change, type=api.STRATEGIC)
    assert (refused.code, "field is immutable" in refused.message) == (422, True)


@pytest.mark.parametrize(("query", "kept"), [({}, True), ({"propagationPolicy": "Background"}, False)])
async def test_pods_of_a_deleted_job_stay_where_nobody_says(api: Any, query: dict[str, str], kept: bool) -> None:
    await api.made(JOBS, job(api))
    answer = await api("DELETE", f"{JOBS}/work", **query)
    assert ("child pods are preserved by default" in answer.headers.get("Warning", "")) is kept
    left = await api("GET", f"{JOBS}/work")
    assert (left.body["metadata"].get("finalizers") == ["orphan"]) is kept
    assert left.code == (200 if kept else 404)


async def test_a_job_is_printed_as_kubectl_does(api: Any) -> None:
    await api.made(JOBS, job(api))
    started, ended = "2024-01-01T00:00:00Z", "2024-01-01T00:00:05Z"
    done = {"type": "Complete", "status": "True"}
    shown = []
    for status in (
        {},
        {"startTime": started},
        {"startTime": started, "completionTime": ended, "succeeded": 1, "conditions": [done]},
    ):
        await api("PATCH", f"{JOBS}/work/status", {"status": status}, type=api.MERGE)
        table = (await api("GET", f"{JOBS}/work", headers=TABLE)).body
        shown.append(table["rows"][0]["cells"][:4])
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", "Status", "Completions", "Duration", "Age", "Containers", "Images", "Selector"]
    assert shown[0] == ["work", "Running", "0/1", ""]
    assert shown[1][:3] == ["work", "Running", "0/1"]
    assert shown[1][3].endswith("d")
    assert shown[2] == ["work", "Complete", "1/1", "5s"]
