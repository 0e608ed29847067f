"""What users get wrong is refused with the code, the reason and the gist of a real API server."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]


async def test_a_wrong_token_is_unauthorized(api: Any) -> None:
    api.token = "wrong"
    for path in (api.PODS, "/api", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
        answer = await api("GET", path)
        assert (answer.code, answer.reason) == (401, "Unauthorized")
    assert (await api("GET", "/version")).code == 200
    assert (await api("GET", "/readyz")).body == {"text": "ok"}


async def test_a_reader_may_look_and_not_touch(api: Any) -> None:
    await api.made(api.CONFIG_MAPS, api.config_map())
    api.token = "reader"
    assert (await api("GET", api.CONFIG_MAPS)).code == 200
    refused = await api("DELETE", f"{api.CONFIG_MAPS}/settings")
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert 'User "viewer" cannot delete resource "configmaps" in API group "" in the namespace "default"' in (
        refused.message
    )


@pytest.mark.parametrize(("verb", "allowed"), [("get", True), ("create", False)])
async def test_a_reader_can_ask_what_it_may(api: Any, verb: str, allowed: bool) -> None:
    attributes = {"verb": verb, "resource": "pods", "namespace": "default"}
    body = {"kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    api.token = "reader"
    assert (await api("POST", path, body)).body["status"]["allowed"] is allowed
    api.token = "full"
    assert (await api("POST", path, body)).body["status"]["allowed"] is True


def _changed(api: Any, change: Any) -> Json:
    body: Json = api.deployment()
    change(body)
    return body


WRONG = {
    "a selector that misses the template": (
        lambda body: body["spec"]["template"]["metadata"].update(labels={"app": "other"}),
        "spec.template.metadata.labels",
        "`selector` does not match template `labels`",
    ),
    "no selector": (lambda body: body["spec"].pop("selector"), "spec.selector", "Required value"),
    "no containers": (
        lambda body: body["spec"]["template"]["spec"].pop("containers"),
        "spec.template.spec.containers",
        "Required value",
    ),
    "no image": (
        lambda body: body["spec"]["template"]["spec"]["containers"][0].pop("image"),
        "spec.template.spec.containers[0].image",
        "Required value",
    ),
    "a bad label value": (
        lambda body: body["metadata"].update(labels={"a": "b c"}),
        "metadata.labels",
        "a valid label must be an empty string or consist of alphanumeric characters",
    ),
    "a bad name": (lambda body: body["metadata"].update(name="Web_1"), "metadata.name", "RFC 1123 subdomain"),
    "negative replicas": (lambda body: body["spec"].update(replicas=-1), "spec.replicas", "greater than or equal to 0"),
}


@pytest.mark.parametrize(("change", "field", "gist"), WRONG.values(), ids=WRONG.keys())
async def test_an_invalid_deployment_is_refused(api: Any, change: Any, field: str, gist: str) -> None:
    answer = await api("POST", api.DEPLOYMENTS, _changed(api, change))
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert field in [cause["field"] for cause in answer.body["details"]["causes"]]
    assert gist in answer.message
    assert answer.message.startswith('Deployment.apps "')


async def test_a_selector_is_immutable(api: Any) -> None:
    await api.made(api.DEPLOYMENTS, api.deployment())
    labels = {"selector": {"matchLabels": {"app": "new"}}, "template": {"metadata": {"labels": {"app": "new"}}}}
    answer = await api("PATCH", f"{api.DEPLOYMENTS}/web", {"spec": labels}, type=api.MERGE)
    assert answer.code == 422
    assert "field is immutable" in answer.message


async def test_a_pod_of_an_absent_account_is_refused(api: Any) -> None:
    answer = await api("POST", api.PODS, api.pod(serviceAccountName="nobody"))
    assert (answer.code, answer.reason) == (403, "Forbidden")
    assert 'serviceaccount "nobody" not found' in answer.message


async def test_unknown_fields_are_refused_told_or_dropped(api: Any) -> None:
    body = api.deployment(replcas=2)
    strict = await api("POST", api.DEPLOYMENTS, body, fieldValidation="Strict")
    why = 'strict decoding error: unknown field "spec.replcas"'
    assert (strict.code, strict.reason) == (400, "BadRequest")
    assert strict.message == f'Deployment in version "v1" cannot be handled as a Deployment: {why}'
    told = await api("POST", api.DEPLOYMENTS, body)
    assert told.headers["Warning"] == '299 - "unknown field \\"spec.replcas\\""'
    assert "replcas" not in told.body["spec"]


@pytest.mark.parametrize(
    ("type", "body"),
    [
        ("application/strategic-merge-patch+json", {"spec": {"replcas": 2}}),
        ("application/merge-patch+json", {"spec": {"replicas": "two"}}),
        ("application/json-patch+json", [{"op": "add", "path": "/spec/replcas", "value": 2}]),
    ],
    ids=["strategic merge", "merge", "json"],
)
async def test_a_patch_whose_outcome_is_no_object_is_invalid(api: Any, type: str, body: Any) -> None:
    await api.made(api.DEPLOYMENTS, api.deployment())
    answer = await api("PATCH", f"{api.DEPLOYMENTS}/web", body, type=type, fieldValidation="Strict")
    assert (answer.code, answer.reason) == (422, "Invalid")
    assert "patch: Invalid value: " in answer.message
    assert answer.body["details"]["causes"][0]["field"] == "patch"


async def test_server_side_apply_knows_no_unknown_field_whatever_the_validation(api: Any) -> None:
    query = {"fieldManager": "tester", "fieldValidation": "Ignore"}
    answer = await api("PATCH", f"{api.DEPLOYMENTS}/web", api.deployment(replcas=2), type=api.APPLY, **query)
    assert answer.code == 400
    assert answer.message == (
        "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): "
        ".spec.replcas: field not declared in schema"
    )


async def test_a_quantity_and_a_port_have_their_form(api: Any) -> None:
    container = {"name": "app", "image": "x", "resources": {"requests": {"cpu": "100x"}}}
    answer = await api("POST", api.PODS, api.pod(containers=[container]))
    assert (answer.code, "quantities must match the regular expression" in answer.message) == (400, True)
    ports = [{"name": "app", "image": "x", "ports": [{"containerPort": 500000}]}]
    answer = await api("POST", api.PODS, api.pod(containers=ports))
    assert "spec.containers[0].ports[0].containerPort: Invalid value: 500000: must be between 1 and 65535" in (
        answer.message
    )


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/apis/batch/v1/namespaces/default/cronjobs", "cronjobs of batch/v1"),
        ("/api/v1/namespaces/default/pods/one/portforward", "pods/portforward of v1"),
        ("/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers", "horizontalpodautoscalers of autoscaling"),
        ("/metrics", "/metrics"),
    ],
)
async def test_what_the_lab_does_not_do_is_named(api: Any, path: str, what: str) -> None:
    answer = await api("GET", path)
    assert (answer.code, answer.reason) == (404, "NotFound")
    assert f"the server could not find the requested resource: the lab does not serve {what}" in answer.message


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xa1", "application/cbor", 415),
        (b'{"kind": "Secret"}', "application/json", 400),
        (b'{"kind": "Pod", "apiVersion": "v2"}', "application/json", 400),
        (b'{"metadata": {"name": "x", "namespace": "other"}}', "application/json", 400),
    ],
)
async def test_bodies_that_do_not_fit_are_refused(api: Any, body: bytes, content_type: str, code: int) -> None:
    assert (await api("POST", api.PODS, body, type=content_type)).code == code


async def test_answers_other_than_json_are_not_offered(api: Any) -> None:
    answer = await api("GET", api.PODS, headers={"Accept": "application/cbor"})
    assert (answer.code, answer.reason) == (406, "NotAcceptable")
    answer = await api("POST", api.CONFIG_MAPS, api.config_map(), headers={"Accept": "application/cbor"})
    assert (answer.code, (await api("GET", f"{api.CONFIG_MAPS}/settings")).code) == (406, 404)
