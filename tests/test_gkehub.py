"""The fleet feature over Google's real client library, against the lab's fleet API and against one that misbehaves."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshbook import gkehub
from meshbook.clusters import Cluster, Kubeconfig
from meshbook.errors import ClusterError, FleetError, UsageError, WaitTimeout
from meshbook.lab.gkehub import FleetServer
from meshbook.lab.topology import PROJECT, LabTopology
from meshbook.settings import Patience

GKE, OTHER = "us-central1/nifc-anthosgke-cls", "global/nifc-anthosbm-cls"
MCI = "/apis/networking.gke.io/v1/namespaces/gw/multiclusteringresses/edge"
MCS = "/apis/networking.gke.io/v1/namespaces/gw/multiclusterservices/edge"
QUICK = Patience(attempts=1, poll_s=0.01, slowest_poll_s=0.02)


class Here:
    """A config cluster as far as the fleet API asks for one: it knows where that is."""

    name = "cluster2"

    def __init__(self, **extension: str) -> None:
        self._extension = extension
        self.waited_for: list[str] = []

    def extension(self, name: str) -> dict[str, Any]:
        return self._extension if name == gkehub.EXTENSION else {}

    def wait_for_kinds(self, kinds: tuple[str, ...], *, timeout_s: float) -> None:
        self.waited_for += kinds


def _config_of(endpoint: str, token: Path) -> Any:
    return Here(**{"endpoint": endpoint, "token-file": str(token), "project": "p"})


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("fleet-secret\n")
    return path


@pytest.fixture
def here(background: Any, topology: LabTopology, token: Path) -> Iterator[Any]:
    topology = replace(topology, clusters=tuple(replace(found, is_gke=True) for found in topology.clusters))
    server = FleetServer(topology, "fleet-secret")
    background.run(server.start())
    yield Here(**{"endpoint": topology.fleet_url, "token-file": str(token), "project": PROJECT})
    background.run(server.stop())


def test_the_kubeconfig_alone_is_enough_to_enable_the_feature_and_again_is_no_change(here: Any) -> None:
    assert gkehub.enable_ingress(GKE, here).outcome == "created"
    again = gkehub.enable_ingress(f"projects/{PROJECT}/locations/us-central1/memberships/nifc-anthosgke-cls", here)
    assert (again.outcome, again.config_membership) == ("unchanged", GKE)
    assert here.waited_for == ["MultiClusterIngress", "MultiClusterService"] * 2


def test_another_config_membership_is_refused_and_how_to_move_to_it_is_told(here: Any) -> None:
    gkehub.enable_ingress(GKE, here)
    moving = r"gcloud container fleet ingress update --config-membership=nifc-anthosbm-cls --location=global"
    with pytest.raises(FleetError, match=rf"another config membership: projects/…/[\s\S]*{moving}"):
        gkehub.enable_ingress(OTHER, here)


def test_a_token_is_not_sent_to_an_endpoint_that_it_was_not_named_with(
    here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB", "https://elsewhere.invalid")
    with pytest.raises(FleetError, match="gcloud auth application-default login"):
        gkehub.enable_ingress(GKE, here)


def test_gclouds_own_variables_lead_to_the_fleet_api(here: Any, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB", here.extension(gkehub.EXTENSION)["endpoint"] + "/")
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", str(token))
    monkeypatch.setenv("CLOUDSDK_CORE_PROJECT", PROJECT)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # must not be asked for this machine
    assert gkehub.enable_ingress(GKE).outcome == "created"


def test_a_change_that_was_begun_earlier_is_waited_for(scripted: Any, token: Path) -> None:
    member = "projects/p/locations/us-central1/memberships/nifc-anthosgke-cls"
    spec = {"multiclusteringress": {"configMembership": member}}
    states = [{"spec": spec, "resourceState": {"state": state}} for state in ("ENABLING", "ENABLING", "ACTIVE")]
    path = "GET /v1/projects/p/locations/global/features/multiclusteringress"
    scripted.script[path] = list(states)
    assert gkehub.enable_ingress(GKE, _config_of(scripted.url, token)).outcome == "unchanged"
    assert len(scripted.asked) == len(states)


def test_the_project_does_not_show_in_what_is_returned_or_raised(here: Any) -> None:
    assert PROJECT not in repr(gkehub.enable_ingress(GKE, here))
    with pytest.raises(FleetError) as caught:
        gkehub.enable_ingress("us-central1/none", here)
    assert PROJECT not in str(caught.value)


def test_a_wrong_token_and_a_fleet_api_that_is_not_there_are_clear_errors(here: Any, token: Path) -> None:
    token.write_text("other")
    with pytest.raises(FleetError, match=r"cannot read the fleet's ingress feature[\s\S]*gcloud auth"):
        gkehub.enable_ingress(GKE, here)
    with pytest.raises(FleetError, match=r"cannot read the fleet's ingress feature[\s\S]*refused"):
        gkehub.enable_ingress(GKE, _config_of("http://127.0.0.1:9", token))


def test_an_operation_that_does_not_end_is_given_up(scripted: Any, token: Path) -> None:
    running = {"name": "projects/p/locations/global/operations/o", "done": False}
    scripted.script["POST /v1/projects/p/locations/global/features"] = [running]
    scripted.script["GET /v1/projects/p/locations/global/operations/o"] = [running]
    with pytest.raises(FleetError, match=r"did not finish .* within 0.5 s"):
        gkehub.enable_ingress(GKE, _config_of(scripted.url, token), timeout_s=0.5)


@pytest.mark.parametrize(
    ("membership", "endpoint", "message"),
    [
        pytest.param("nifc-anthosgke-cls", "", "cannot read the membership", id="no location"),
        pytest.param(GKE, "", "set CLOUDSDK_CORE_PROJECT", id="no project"),
        pytest.param(GKE, "http://hub.example", "unencrypted", id="plain http elsewhere"),
        pytest.param(GKE, "http://127.evil.example", "unencrypted", id="not loopback"),
    ],
)
def test_what_cannot_be_acted_on_is_refused(
    membership: str, endpoint: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB", endpoint)
    with pytest.raises(UsageError, match=message):
        gkehub.enable_ingress(membership, project="p" if endpoint else "")


def test_without_a_login_it_says_how_to_get_one() -> None:
    with pytest.raises(FleetError, match="gcloud auth application-default login"):
        gkehub.enable_ingress(GKE, project="p")


def test_a_missing_token_file_is_told_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file") as caught:
        gkehub.enable_ingress(GKE, _config_of("http://127.0.0.1:9", tmp_path / "none"))
    assert str(tmp_path) not in str(caught.value)


def test_without_googles_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "google.cloud":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"pip install 'meshbook\[gke\]'"):
        gkehub.enable_ingress(GKE, project="p")


# the VIP


@pytest.fixture
def config_cluster(scripted: Any, kubeconfig: Callable[..., str]) -> Cluster:
    kinds = [
        {"name": "multiclusteringresses", "kind": "MultiClusterIngress", "namespaced": True},
        {"name": "multiclusterservices", "kind": "MultiClusterService", "namespaced": True},
    ]
    scripted.script["GET /apis/networking.gke.io/v1"] = [{"resources": kinds}]
    scripted.script["GET /api/v1/namespaces/gw/events"] = [{"items": []}]
    return Cluster(Kubeconfig(kubeconfig({"cluster2": scripted.url})), "cluster2", QUICK)


def _ingress(**status: str) -> dict[str, Any]:
    spec = {"template": {"spec": {"backend": {"serviceName": "edge", "servicePort": 80}}}}
    return {"metadata": {"name": "edge"}, "spec": spec, "status": status}


def test_the_vip_is_waited_for(scripted: Any, config_cluster: Cluster) -> None:
    scripted.script[f"GET {MCI}"] = [_ingress(), _ingress(), _ingress(VIP="203.0.113.7")]
    assert gkehub.wait_for_vip(config_cluster, "gw", "edge", timeout_s=5) == "203.0.113.7"


def test_a_vip_that_stays_away_says_what_may_be_missing(scripted: Any, config_cluster: Cluster) -> None:
    scripted.script[f"GET {MCI}"] = [_ingress()]
    message = r"edge has no VIP after 0.05 s\n  backend: there is no MultiClusterService edge in gw\n  events: none"
    with pytest.raises(WaitTimeout, match=message + r"[\s\S]*hub.enable_ingress"):
        gkehub.wait_for_vip(config_cluster, "gw", "edge", timeout_s=0.05)
    scripted.script[f"GET {MCS}"] = [{"metadata": {"name": "edge"}}]
    scripted.script["GET /api/v1/namespaces/gw/events"] = [{"items": [{"reason": "SyncFailed", "message": "quota"}]}]
    with pytest.raises(WaitTimeout, match="events: SyncFailed quota") as caught:
        gkehub.wait_for_vip(config_cluster, "gw", "edge", timeout_s=0.05)
    assert "backend" not in caught.value.evidence


def test_an_ingress_that_was_never_made_is_no_wait(config_cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"no MultiClusterIngress edge in gw\n  try: stage 2"):
        gkehub.wait_for_vip(config_cluster, "gw", "edge", timeout_s=60)


def test_kinds_that_a_feature_brings_are_waited_for(scripted: Any, config_cluster: Cluster) -> None:
    served = scripted.script["GET /apis/networking.gke.io/v1"][0]
    scripted.script["GET /apis/networking.gke.io/v1"] = [(404, {"message": "no"}), {"resources": []}, served]
    config_cluster.wait_for_kinds(gkehub.INGRESS_KINDS, timeout_s=5)
    assert [line for line in scripted.asked if "gke.io" in line] == ["GET /apis/networking.gke.io/v1"] * 3
