"""The fleet API as Google's own client library and a bare HTTP client meet it."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import gkehub_v1

from meshbook.lab.gkehub import FleetServer
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import PROJECT, LabTopology, two_clouds

TOKEN = "fleet-secret"
PARENT = f"projects/{PROJECT}/locations/global"
NAME = f"{PARENT}/features/multiclusteringress"
Json = dict[str, Any]


class StaticToken(AnonymousCredentials):  # type: ignore[misc]  # the library ships no types
    """Google credentials that are one fixed bearer token."""

    def before_request(self, request: object, method: str, url: str, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {TOKEN}"


@pytest.fixture
async def topology(tmp_path: Path) -> AsyncIterator[LabTopology]:
    block, claim = claim_block()
    topology = two_clouds(tmp_path, block)
    server = FleetServer(topology, TOKEN)
    await server.start()
    yield topology
    await server.stop()
    claim.close()


def google(topology: LabTopology) -> gkehub_v1.GkeHubClient:
    options = {"api_endpoint": topology.fleet_url}
    return gkehub_v1.GkeHubClient(transport="rest", credentials=StaticToken(), client_options=options)


def enabled_for(membership: str) -> gkehub_v1.Feature:
    spec = gkehub_v1.CommonFeatureSpec(multiclusteringress={"config_membership": membership})
    return gkehub_v1.Feature(spec=spec)


def call(url: str, method: str = "GET", body: str = "", token: str = TOKEN) -> tuple[int, Json]:
    """Send one request as urllib does; return the status and the JSON body."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = urllib.request.Request(url, method=method, data=body.encode() or None, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


async def test_googles_library_enables_reads_changes_and_disables_the_feature(topology: LabTopology) -> None:
    member = topology.cluster("cluster2").membership

    def life_of_a_feature() -> None:
        client = google(topology)
        made = client.create_feature(parent=PARENT, feature_id="multiclusteringress", resource=enabled_for(member))
        feature = made.result(timeout=5)
        assert feature.name == NAME
        assert feature.spec.multiclusteringress.config_membership == member
        assert client.get_feature(name=NAME).resource_state.state.name == "ACTIVE"
        assert [found.name for found in client.list_features(parent=PARENT)] == [NAME]
        mask = {"paths": ["spec.multiclusteringress.config_membership"]}
        client.update_feature(name=NAME, update_mask=mask, resource=enabled_for(member)).result(timeout=5)
        with pytest.raises(exceptions.Conflict):
            client.create_feature(parent=PARENT, feature_id="multiclusteringress", resource=enabled_for(member))
        client.delete_feature(name=NAME).result(timeout=5)
        with pytest.raises(exceptions.NotFound):
            client.get_feature(name=NAME)

    await asyncio.to_thread(life_of_a_feature)


async def test_googles_library_lists_the_memberships_of_all_locations(topology: LabTopology) -> None:
    parent = f"projects/{PROJECT}/locations/-"
    found = await asyncio.to_thread(lambda: list(google(topology).list_memberships(parent=parent)))
    assert [member.name for member in found] == [cluster.membership for cluster in topology.clusters]
    assert [bool(member.endpoint.gke_cluster.resource_link) for member in found] == [False, True]


async def test_googles_library_is_told_that_a_membership_does_not_exist(topology: LabTopology) -> None:
    def enable() -> None:
        resource = enabled_for(f"{PARENT}/memberships/nobody")
        google(topology).create_feature(parent=PARENT, feature_id="multiclusteringress", resource=resource)

    with pytest.raises(exceptions.BadRequest, match="does not exist"):
        await asyncio.to_thread(enable)


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "status"),
    [
        ("GET", "projects/somebody-else/locations/global/features/x", "", 403, "PERMISSION_DENIED"),
        ("GET", NAME, "", 404, "NOT_FOUND"),
        ("POST", f"{PARENT}/features?featureId=multiclusteringress", "[]", 400, "INVALID_ARGUMENT"),
        ("POST", f"{PARENT}/features?featureId=multiclusteringress", "{", 400, "INVALID_ARGUMENT"),
        ("POST", f"{PARENT}/features?featureId=servicemesh", "{}", 501, "UNIMPLEMENTED"),
        ("GET", f"{PARENT}/scopes", "", 404, "NOT_FOUND"),
        ("PUT", NAME, "{}", 405, "UNIMPLEMENTED"),
    ],
    ids=["other-project", "absent", "not-an-object", "not-json", "other-feature", "other-collection", "other-verb"],
)
async def test_refusals_have_googles_form(
    topology: LabTopology, method: str, path: str, body: str, code: int, status: str
) -> None:
    answered, answer = await asyncio.to_thread(call, f"{topology.fleet_url}/v1/{path}", method, body)
    assert (answered, answer["error"]["code"], answer["error"]["status"]) == (code, code, status)
    assert answer["error"]["message"]


async def test_a_wrong_token_gets_401(topology: LabTopology) -> None:
    url = f"{topology.fleet_url}/v1/{PARENT}/memberships"
    code, answer = await asyncio.to_thread(call, url, token="wrong")
    assert (code, answer["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_gclouds_prompt_finds_the_memberships_in_v1beta(topology: LabTopology) -> None:
    url = f"{topology.fleet_url}/v1beta/projects/{PROJECT}/locations/-/memberships"
    _, answer = await asyncio.to_thread(call, url)
    assert len(answer["resources"]) == 2


async def test_service_usage_says_that_the_api_is_enabled(topology: LabTopology) -> None:
    service = f"{topology.fleet_url}/v1/projects/{PROJECT}/services/multiclusteringress.googleapis.com"
    _, found = await asyncio.to_thread(call, service)
    _, operation = await asyncio.to_thread(call, f"{service}:enable", "POST", "{}")
    assert found["state"] == "ENABLED"
    assert operation["done"]
