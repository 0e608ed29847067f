"""The fleet as data: what may be enabled, and when a change is done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshbook.lab.gkehub.fleet import OPERATION_S, Fleet, GoogleError, Json
from meshbook.lab.topology import PROJECT, two_clouds

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
    clock.pass_s(OPERATION_S)
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


def test_the_mask_says_what_a_patch_changes(fleet: Fleet, clock: Clock) -> None:
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE) | {"labels": {"a": "1"}})
    fleet.patch_feature(NAME, "labels", {"labels": {"a": "2"}, "spec": {}})
    clock.pass_s(1)
    assert fleet.feature(NAME)["labels"] == {"a": "2"}
    assert fleet.feature(NAME)["spec"] == ingress(GKE)["spec"]


@pytest.mark.parametrize("mask", ["spec.multiclusteringress.config_membership", "spec", "*"])
def test_a_patch_cannot_point_to_an_unknown_membership(fleet: Fleet, mask: str) -> None:
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))
    with pytest.raises(GoogleError, match="does not exist"):
        fleet.patch_feature(NAME, mask, ingress("projects/p/locations/l/memberships/m"))


def test_a_deleted_feature_is_gone_and_can_be_enabled_again(fleet: Fleet) -> None:
    fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))
    fleet.delete_feature(NAME)
    with pytest.raises(GoogleError, match="not found"):
        fleet.feature(NAME)
    assert not fleet.create_feature(PARENT, "multiclusteringress", ingress(GKE))["done"]


def test_a_dash_lists_the_memberships_of_all_locations(fleet: Fleet) -> None:
    def names(location: str) -> list[str]:
        return [member["name"] for member in fleet.memberships(f"projects/{PROJECT}/locations/{location}")]

    assert names("-") == [ON_PREM, GKE]
    assert names("us-central1") == [GKE]
    assert names("mars") == []
