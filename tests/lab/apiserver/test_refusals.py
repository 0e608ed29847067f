"""Who may do what, and what the lab does not do. Refusals that all API servers have in common are in tests/contract."""

from __future__ import annotations

from typing import Any

import pytest


async def test_a_wrong_token_is_unauthorized(api: Any) -> None:
    api.token = "wrong"
    for path in (api.PODS, "/api", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"):
        answer = await api("GET", path)
        assert (answer.code, answer.reason) == (401, "Unauthorized")
    assert (await api("GET", "/version")).code == 200
    assert (await api("GET", "/readyz")).body == {"text": "ok"}


async def test_who_may_not_impersonate_is_refused_and_so_is_what_is_not_done(api: Any) -> None:
    api.token = "reader"
    refused = await api("GET", api.PODS, headers={"Impersonate-User": "ada"})
    assert refused.code == 403
    assert (
        'users "ada" is forbidden: User "viewer" cannot impersonate resource "users" in API group ""' in refused.message
    )
    api.token = "full"
    assert (await api("GET", api.PODS, headers={"Impersonate-Group": "one"})).code == 500
    others = await api("GET", api.PODS, headers={"Impersonate-User": "ada", "Impersonate-Uid": "1"})
    assert (others.code, others.message) == (400, "the lab does not do Impersonate-Uid")


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


async def test_what_no_kubelet_can_be_asked_is_refused_and_one_that_is_away_is_an_internal_error(api: Any) -> None:
    addresses = [{"type": "InternalIP", "address": api.cluster.node_address}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}
    await api.made("/api/v1/nodes", {"metadata": {"name": "node-1"}, "status": status})
    two = [{"name": name, "image": "x:1"} for name in ("a", "b")]
    for pod in (api.pod("idle"), api.pod(nodeName="node-1"), api.pod("two", nodeName="node-1", containers=two)):
        await api.made(api.PODS, pod)
    wrong = {
        "idle/exec?command=x": "does not have a host assigned",
        "one/exec": "at least 1 command",
        "one/exec?command=x": "WebSocket",
        "two/exec?command=x": "a container name must be specified",
    }
    for path, words in wrong.items():
        answer = await api("GET", f"{api.PODS}/{path}")
        assert (answer.code, words in answer.message) == (400, True), path
    answer = await api("GET", f"{api.PODS}/one/log")
    assert (answer.code, answer.reason) == (500, "InternalError")


async def test_forms_other_than_json_yaml_and_protobuf_are_not_offered(api: Any) -> None:
    assert (await api("POST", api.PODS, b"\xa1", type="application/cbor")).code == 415
    answer = await api("GET", api.PODS, headers={"Accept": "application/cbor"})
    assert (answer.code, answer.reason) == (406, "NotAcceptable")
