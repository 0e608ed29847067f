"""The fleet API: as data with a clock of its own, and as Google's library meets it; gcloud meets it in the article."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import gkehub_v1

from meshbook.lab.gkehub import OPERATION, Fleet, FleetServer, GoogleError, Json
from meshbook.lab.topology import PROJECT, LabTopology, two_clouds

TOKEN = "fleet-secret"
PARENT = f"projects/{PROJECT}/locations/global"
NAME = f"{PARENT}/features/multiclusteringress"
ON_PREM, GKE = (cluster.membership for cluster in two_clouds(Path("/lab"), 64).clusters)


class Clock:
    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pass_s(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fleet(clock: Clock) -> Fleet:
    return Fleet(two_clouds(Path("/lab"), 64), clock)


def ingress(membership: str) -> Json:
    return {"spec": {"multiclusteringress": {"configMembership": membership}}}


def test_an_operation_is_done_after_a_moment_and_carries_the_named_feature(fleet: Fleet, clock: Clock) -> None:
    operation = fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))
    assert (operation["done"], "response" in operation) == (False, False)
    assert fleet.feature(NAME)["resourceState"] == {"state": "ENABLING"}
    clock.time += OPERATION
    finished = fleet.operation(operation["name"])
    assert finished["done"]
    assert finished["response"]["name"] == NAME
    assert finished["response"]["@type"] == "type.googleapis.com/google.cloud.gkehub.v1.Feature"
    assert fleet.feature(NAME)["resourceState"] == {"state": "ACTIVE"}


def test_only_gke_members_take_part_in_the_ingress(fleet: Fleet, clock: Clock) -> None:
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))
    clock.pass_s(1)
    assert list(fleet.feature(NAME)["membershipStates"]) == [GKE]
    assert fleet.feature(NAME)["state"]["state"]["code"] == "OK"


@pytest.mark.parametrize("member", [f"{PARENT}/memberships/nobody", ON_PREM, ""], ids=["unknown", "on-prem", "none"])
def test_a_config_membership_must_be_a_gke_member(fleet: Fleet, member: str) -> None:
    with pytest.raises(GoogleError) as refusal:
        fleet.create_feature(PARENT, "multiclusteringress", ingress(member))
    assert refusal.value.body["error"]["status"] == "INVALID_ARGUMENT"
    assert fleet.features(PARENT) == []
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))
    for mask in ("spec.multiclusteringress.config_membership", "spec", "*"):
        with pytest.raises(GoogleError, match="configMembership"):
            fleet.patch_feature(NAME, mask, ingress(member))


def test_the_mask_says_what_a_patch_changes(fleet: Fleet, clock: Clock) -> None:
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE) | {"labels": {"a": "1"}})
    fleet.patch_feature(NAME, "labels", {"labels": {"a": "2"}, "spec": {}})
    clock.pass_s(1)
    assert fleet.feature(NAME)["labels"] == {"a": "2"}
    assert fleet.feature(NAME)["spec"] == ingress(GKE)["spec"]


def test_a_deleted_feature_is_gone_and_can_be_enabled_again(fleet: Fleet) -> None:
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))
    fleet.delete_feature(NAME)
    with pytest.raises(GoogleError, match="not found"):
        fleet.feature(NAME)
    assert not fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))["done"]


class StaticToken(AnonymousCredentials):  # type: ignore[misc]  # the library ships no types
    """Google credentials that are one fixed bearer token."""

    def before_request(self, request: object, method: str, url: str, headers: dict[str, str]) -> None:
        headers["authorization"] = f"Bearer {TOKEN}"


@pytest.fixture
async def served(topology: LabTopology) -> AsyncIterator[LabTopology]:
    server = FleetServer(topology, TOKEN)
    await server.start()
    yield topology
    await server.stop()


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


async def test_googles_library_enables_reads_changes_and_disables_the_feature(served: LabTopology) -> None:
    member = served.cluster("cluster2").membership

    def life_of_a_feature() -> None:
        client = google(served)
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


async def test_googles_library_lists_the_memberships_of_all_locations(served: LabTopology) -> None:
    parent = f"projects/{PROJECT}/locations/-"
    found = await asyncio.to_thread(lambda: list(google(served).list_memberships(parent=parent)))
    assert [member.name for member in found] == [cluster.membership for cluster in served.clusters]
    assert [bool(member.endpoint.gke_cluster.resource_link) for member in found] == [False, True]


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
    served: LabTopology, method: str, path: str, body: str, code: int, status: str
) -> None:
    answered, answer = await asyncio.to_thread(call, f"{served.fleet_url}/v1/{path}", method, body)
    assert (answered, answer["error"]["code"], answer["error"]["status"]) == (code, code, status)
    assert answer["error"]["message"]


async def test_a_wrong_token_gets_401(served: LabTopology) -> None:
    url = f"{served.fleet_url}/v1/{PARENT}/memberships"
    code, answer = await asyncio.to_thread(call, url, token="wrong")
    assert (code, answer["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_service_usage_says_that_the_api_is_enabled(served: LabTopology) -> None:
    service = f"{served.fleet_url}/v1/projects/{PROJECT}/services/multiclusteringress.googleapis.com"
    _, found = await asyncio.to_thread(call, service)
    _, operation = await asyncio.to_thread(call, f"{service}:enable", "POST", "{}")
    assert found["state"] == "ENABLED"
    assert operation["done"]
