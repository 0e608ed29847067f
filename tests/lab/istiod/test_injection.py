"""What becomes of a pod at the webhook."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import jsonpatch
import pytest

from meshbook.lab.istiod import Webhook, injected, review
from meshbook.lab.pki import Authority
from meshbook.lab.topology import LabTopology, two_clouds

CLUSTER = two_clouds(Path("/lab"), 64).clusters[0]


def pod(**changes: Any) -> dict[str, Any]:
    metadata = {
        "generateName": "helloworld-v1-5f7d9c-",
        "labels": {"app": "helloworld", "version": "v1", "pod-template-hash": "5f7d9c"},
    }
    spec = {"containers": [{"name": "helloworld", "image": "docker.io/istio/examples-helloworld-v1"}]}
    return {"metadata": metadata | changes, "spec": spec}


def gateway_pod(**container: Any) -> dict[str, Any]:
    own = {"name": "istio-proxy", "image": "auto"} | container
    labels, annotations = {"istio": "ingressgateway"}, {"inject.istio.io/templates": "gateway"}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [own]}}


def inject(original: dict[str, Any], namespace: str = "sample", *, native: bool = False) -> dict[str, Any]:
    return injected(original, namespace, CLUSTER, native=native)


def test_a_pod_gets_a_sidecar_beside_its_own_container() -> None:
    program, proxy = inject(pod())["spec"]["containers"]
    assert (program["name"], proxy["name"]) == ("helloworld", "istio-proxy")
    assert proxy["image"] == "gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9"
    assert proxy["args"][:2] == ["proxy", "sidecar"]
    assert proxy["readinessProbe"]["httpGet"] == {"path": "/healthz/ready", "port": 15021}


def test_a_native_sidecar_starts_before_all_others_and_goes_on() -> None:
    first = {"name": "first", "image": "docker.io/curlimages/curl"}
    result = inject(pod() | {"spec": pod()["spec"] | {"initContainers": [first]}}, native=True)
    proxy, after = result["spec"]["initContainers"]
    assert (proxy["name"], proxy["restartPolicy"], after) == ("istio-proxy", "Always", first)
    assert proxy["startupProbe"]["httpGet"] == proxy["readinessProbe"]["httpGet"]
    assert [one["name"] for one in result["spec"]["containers"]] == ["helloworld"]
    status = json.loads(result["metadata"]["annotations"]["sidecar.istio.io/status"])
    assert (status["initContainers"], status["containers"]) == (["istio-proxy"], None)
    assert inject(result, native=True) == result


def test_a_pod_may_have_its_proxy_beside_its_application_and_a_gateway_always_has() -> None:
    beside = inject(pod(annotations={"sidecar.istio.io/nativeSidecar": "false"}), native=True)
    assert [one["name"] for one in beside["spec"]["containers"]] == ["helloworld", "istio-proxy"]
    assert "initContainers" not in inject(gateway_pod(), native=True)["spec"]


def test_labels_and_annotations_say_what_was_done() -> None:
    metadata = inject(pod())["metadata"]
    assert metadata["labels"]["security.istio.io/tlsMode"] == "istio"
    assert metadata["labels"]["service.istio.io/canonical-name"] == "helloworld"
    assert metadata["labels"]["service.istio.io/canonical-revision"] == "v1"
    status = json.loads(metadata["annotations"]["sidecar.istio.io/status"])
    assert (status["containers"], status["revision"]) == (["istio-proxy"], "asm-1175-9")
    assert metadata["annotations"]["kubectl.kubernetes.io/default-container"] == "helloworld"


def test_what_the_pod_says_itself_counts_and_injecting_twice_changes_nothing_more() -> None:
    labels = {"service.istio.io/canonical-name": "mine"}
    once = inject(pod(labels=labels))
    assert once["metadata"]["labels"]["service.istio.io/canonical-name"] == "mine"
    assert inject(once) == once


REFUSALS = [
    pod(labels={"sidecar.istio.io/inject": "false"}),
    pod(annotations={"sidecar.istio.io/inject": "false"}),
    pod() | {"spec": pod()["spec"] | {"hostNetwork": True}},
]


@pytest.mark.parametrize("original", REFUSALS, ids=["by-label", "by-annotation", "host-network"])
def test_a_pod_that_refuses_stays_as_it_is(original: dict[str, Any]) -> None:
    assert inject(original) == original
    assert inject(pod(), namespace="kube-system") == pod()


def test_a_gateways_auto_image_becomes_the_proxy() -> None:
    env = [{"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": "network1"}]
    result = inject(gateway_pod(env=env, ports=[{"containerPort": 15443}], resources={"limits": {"cpu": "1"}}))
    (proxy,) = result["spec"]["containers"]
    assert proxy["image"] == "gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9"
    assert proxy["args"][1] == "router"
    assert [one["containerPort"] for one in proxy["ports"]] == [15443, 15090]
    assert [one["name"] for one in proxy["env"]][:2] == ["ISTIO_META_REQUESTED_NETWORK_VIEW", "POD_NAME"]
    assert proxy["resources"]["limits"] == {"cpu": "1", "memory": "1Gi"}
    assert "security.istio.io/tlsMode" not in result["metadata"]["labels"]


def test_a_gateways_own_image_stays() -> None:
    (proxy,) = inject(gateway_pod(image="example/proxy:1"))["spec"]["containers"]
    assert proxy["image"] == "example/proxy:1"


def asked(original: dict[str, Any]) -> dict[str, Any]:
    return {"request": {"uid": "42", "namespace": "sample", "object": original}}


def test_an_unknown_template_is_refused_by_name() -> None:
    other = pod(annotations={"inject.istio.io/templates": "grpc-agent"})
    answer = review(asked(other), CLUSTER, native=True)["response"]
    assert (answer["allowed"], "grpc-agent" in answer["status"]["message"]) == (False, True)


async def test_the_webhook_answers_with_a_patch_over_https(topology: LabTopology) -> None:
    authority, cluster = Authority(topology.pki), topology.clusters[0]
    webhook = Webhook(cluster, authority.server_context("istiod", [cluster.istiod_address]), native=False)
    await webhook.start()
    try:
        url = f"https://{cluster.istiod_address}:15017/inject"
        async with asyncio.timeout(10), aiohttp.ClientSession() as session:
            tls = authority.client_context("client")
            async with session.post(url, json=asked(pod()), ssl=tls) as response:
                answer = (await response.json())["response"]
            async with session.post(url, data=b"{}", ssl=tls) as response:
                refused = response.status
    finally:
        await webhook.stop()
    operations = json.loads(base64.b64decode(answer["patch"]))
    assert (answer["uid"], answer["allowed"], answer["patchType"]) == ("42", True, "JSONPatch")
    assert jsonpatch.apply_patch(pod(), operations) == inject(pod())
    assert refused == 400
