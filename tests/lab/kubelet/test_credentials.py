from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import credentials

Object = dict[str, Any]
PLACE = "/var/run/secrets/tokens"


def _pod(specs: Any, **source: Any) -> Object:
    volume = {"name": "own", "projected": {"sources": [{"serviceAccountToken": {"path": "token", **source}}]}}
    container = specs.app(volumeMounts=[{"name": "own", "mountPath": PLACE}])
    pod: Object = specs.pod(container, volumes=[volume])
    return pod


def test_a_token_is_asked_for_its_pod_its_audience_and_its_time(specs: Any) -> None:
    asked = credentials.request(_pod(specs), {"path": "token", "audience": "vault", "expirationSeconds": 900})
    bound = {"apiVersion": "v1", "kind": "Pod", "name": "web-0", "uid": "uid-1"}
    assert asked["spec"] == {"boundObjectRef": bound, "expirationSeconds": 900, "audiences": ["vault"]}
    assert "audiences" not in credentials.request(_pod(specs), {"path": "token"})["spec"]


async def test_a_pod_waits_until_it_has_its_token_and_says_so(node: Any, specs: Any) -> None:
    node.refusals = [ApiError("not now", code=0)]
    told = []
    object.__setattr__(node.ground, "tell", lambda pod, one: told.append((one.reason, one.message)))
    await node.start_ready(_pod(specs))
    assert told[0] == ("FailedMount", "MountVolume.SetUp failed: not now")
    folder = node.ground.topology.pod_folder("cluster1", "sample", "web-0")
    assert (folder / PLACE[1:] / "token").read_text() == "token-1"


async def test_a_token_is_renewed_before_it_expires(node: Any, specs: Any) -> None:
    await node.start_ready(_pod(specs, expirationSeconds=0.1))
    await node.until(lambda: len(node.tokens) > 2)
    file = node.ground.topology.pod_folder("cluster1", "sample", "web-0") / PLACE[1:] / "token"
    assert int(file.read_text().removeprefix("token-")) >= 2


async def test_a_pod_without_volumes_asks_for_nothing_and_finds_the_api_server(node: Any, specs: Any) -> None:
    script = 'echo "$KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT $CONTAINER_SANDBOX_MOUNT_POINT"; exec sleep 60'
    await node.start_ready(specs.pod(specs.app(script)))
    folder = node.ground.topology.pod_folder("cluster1", "sample", "web-0")
    await node.until(lambda: f"{node.cluster.api_address} 6443 {folder}" in (folder / "app" / "0.log").read_text())
    assert node.tokens == []


@pytest.mark.parametrize("path", ["/var/run/x", "var/run/x", "//var/run/x/", "/var/../../run/../var/./run/x"])
def test_a_mount_lies_below_the_folder_of_its_pod_whatever_its_path(path: str) -> None:
    found = Path("/pod") / credentials.within(path, "../token")
    assert found.is_relative_to("/pod")
    assert ".." not in found.parts
    assert found.name == "token"
