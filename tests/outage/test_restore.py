"""What a dead run left down is restored from the cluster alone; what a living one has taken down is left to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from outage_fleet import (
    LEASE,
    NAMESPACE,
    SYSTEM,
    TARGETS,
    intent,
    interrupted,
    leases,
    must_not_begin,
    record,
    replicas,
    shape,
)

from meshbook import outage, progress
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, GatheredError, LeftToRunError, NotRestoredError, OutageError
from meshbook.settings import Patience

FORBIDDEN = (403, {"kind": "Status", "message": "may not list all", "reason": "Forbidden", "code": 403})


@pytest.mark.parametrize("mode", TARGETS)
def test_every_mode_is_restored_and_again_there_is_nothing_to_do(fleet: Fleet, target: Cluster, mode: str) -> None:
    before = shape(target)
    interrupted(intent(fleet, mode))
    assert shape(target) != before
    (restored,) = outage.restore(fleet, NAMESPACE, timeout_s=10)
    assert (restored.kind, restored.name, restored.namespace) == TARGETS[mode]
    assert shape(target) == before
    assert outage.restore(fleet, NAMESPACE) == []


def test_what_would_be_restored_can_be_looked_at_first(fleet: Fleet, target: Cluster) -> None:
    assert outage.pending_rollbacks(fleet, NAMESPACE) == []
    run = interrupted(intent(fleet))
    (pending,) = outage.pending_rollbacks(fleet, NAMESPACE)
    assert str(pending).startswith("cluster1: Deployment web in sample: scale-to-zero since 20")
    assert str(pending).endswith(f", by run {run}; to be restored, 2 replicas")
    assert replicas(target) == 0
    target.scale("web", 3, NAMESPACE)
    (pending,) = outage.pending_rollbacks(fleet, NAMESPACE)
    assert pending.restore == "only the record is left, 3 replicas"
    assert record(target)[outage.RUN] == run


def test_a_count_that_somebody_has_set_since_is_left(fleet: Fleet, target: Cluster) -> None:
    interrupted(intent(fleet))
    target.scale("web", 3, NAMESPACE)
    (restored,) = outage.restore(fleet, NAMESPACE, timeout_s=10)
    assert str(restored) == "cluster1: Deployment web in sample was already restored, 3 replicas"
    assert (replicas(target), record(target)) == (3, {})


def test_one_that_cannot_be_restored_keeps_no_other_down(fleet: Fleet, target: Cluster) -> None:
    before = shape(target)
    interrupted(intent(fleet, "readiness-lost"))
    for mode, (_, name, namespace) in {one: TARGETS[one] for one in ("scale-to-zero", "east-west-down")}.items():
        interrupted(intent(fleet, mode))
        spoilt = {"metadata": {"annotations": {outage.REPLICAS: "many"}}}
        target.patch("Deployment", name, spoilt, namespace=namespace)
    with pytest.raises(
        NotRestoredError, match=r"2 of 3 objects were not restored[\s\S]*cannot read its annotation"
    ) as told:
        outage.restore(fleet, timeout_s=10)
    assert "many" in str(told.value)
    assert shape(target)["Service web"] == before["Service web"]
    assert (replicas(target), replicas(target, "gateway", SYSTEM)) == (0, 0)


def test_what_was_taken_down_for_another_namespace_is_left_alone(fleet: Fleet) -> None:
    interrupted(intent(fleet))
    assert outage.restore(fleet, "elsewhere") == []
    assert len(outage.restore(fleet, NAMESPACE, timeout_s=10)) == 1


def test_a_run_renews_a_lease_of_its_application_for_as_long_as_its_outage(fleet: Fleet, target: Cluster) -> None:
    wanted = intent(fleet)
    with outage.outage(wanted):
        (lease,) = target.list(LEASE, NAMESPACE)
        assert lease["spec"]["holderIdentity"] == wanted.run
        (owner,) = lease["metadata"]["ownerReferences"]
        assert owner["uid"] == target.get("Deployment", "web", NAMESPACE)["metadata"]["uid"]
        (pending,) = outage.pending_rollbacks(fleet, NAMESPACE)
        assert pending.lease_renewed
        assert "; left to its run, which is alive (process " in str(pending)
        (forced,) = outage.pending_rollbacks(fleet, NAMESPACE, force=True)
        assert forced.restore == "to be restored, 2 replicas"
    assert leases(target) == []


def test_what_a_living_run_has_taken_down_is_left_to_it(fleet: Fleet, target: Cluster) -> None:
    wanted = intent(fleet)
    with outage.outage(wanted):
        with pytest.raises(
            LeftToRunError, match=f"belongs to run {wanted.run}, which is alive[\\s\\S]*restores it itself"
        ):
            outage.restore(fleet, NAMESPACE)
        with pytest.raises(
            OutageError, match=r"which is alive \(process \d+ at .*: nothing was restored[\s\S]*--force"
        ):
            must_not_begin(intent(fleet))
        assert replicas(target) == 0
        assert len(leases(target)) == 1
    assert replicas(target) == 2


def test_unless_it_is_forced(fleet: Fleet, target: Cluster) -> None:
    with outage.outage(intent(fleet)):
        (restored,) = outage.restore(fleet, NAMESPACE, timeout_s=10, force=True)
        assert restored.outcome == "restored"
        assert (replicas(target), leases(target)) == (2, [])


def test_what_a_dead_run_left_is_restored_when_its_lease_has_run_out(fleet: Fleet, target: Cluster) -> None:
    interrupted(intent(fleet), lease=True)
    begun, shown = time.monotonic(), list[str]()
    with progress.following(shown.append):
        (restored,) = outage.restore(fleet, NAMESPACE, timeout_s=10)
    assert any("whether the run of an outage lives" in line for line in shown)
    assert shown[-1] == ""
    assert restored.outcome == "restored"
    assert time.monotonic() - begun >= target.connection.patience.lease_s
    assert leases(target) == []


def test_a_lease_that_is_all_that_a_dead_run_left_is_deleted(fleet: Fleet, target: Cluster) -> None:
    interrupted(intent(fleet), lease=True)
    target.patch("Deployment", "web", {"metadata": {"annotations": {outage.RUN: None}}}, namespace=NAMESPACE)
    assert outage.restore(fleet, "elsewhere") == []
    assert len(leases(target)) == 1
    assert outage.restore(fleet, NAMESPACE) == []
    assert leases(target) == []


def test_a_run_that_ends_meanwhile_is_not_in_the_way(fleet: Fleet, target: Cluster) -> None:
    run = interrupted(intent(fleet), lease=True)
    ending = threading.Timer(0.2, target.delete_object, [LEASE, f"meshbook-outage-{run}", NAMESPACE])
    ending.start()
    begun = time.monotonic()
    assert len(outage.restore(fleet, NAMESPACE, timeout_s=10)) == 1
    assert time.monotonic() - begun < 5
    ending.join()


def test_who_may_not_write_leases_takes_down_without(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Cluster.create

    def refused(self: Cluster, kind: str, found: Any) -> Any:
        if kind == LEASE:
            raise ClusterError("leases are forbidden", code=403)
        return real(self, kind, found)

    monkeypatch.setattr(Cluster, "create", refused)
    with outage.outage(intent(fleet)):
        assert (replicas(target), leases(target)) == (0, [])
    assert replicas(target) == 2


@pytest.fixture
def narrow(scripted: Any, kubeconfig: Callable[..., str]) -> Fleet:
    """A user who may not list all namespaces, and a kubeconfig that names a lab which is gone."""
    names = {"deployments": "Deployment", "services": "Service", "namespaces": "Namespace"}
    kinds = [{"name": one, "kind": kind, "namespaced": one != "namespaces"} for one, kind in names.items()]
    scripted.script |= {"GET /apis/apps/v1": [{"resources": kinds[:1]}], "GET /api/v1": [{"resources": kinds[1:]}]}
    scripted.script |= {"GET /apis/apps/v1/deployments": [FORBIDDEN], "GET /api/v1/services": [FORBIDDEN]}
    lab_that_is_gone = {"endpoint": "http://127.0.0.1:9", "token-file": "/nowhere", "cluster": "cluster1"}
    path = kubeconfig({"one": scripted.url}, **{"meshbook.io/lab": lab_that_is_gone})
    return Fleet.connect(["one"], path, patience=Patience(rollback_s=0.1, pause_s=0.01))


@pytest.mark.parametrize("system", [{"items": []}, FORBIDDEN], ids=["readable", "forbidden"])
def test_who_may_not_list_everything_restores_the_namespaces_that_were_named(
    narrow: Fleet, scripted: Any, system: Any
) -> None:
    for path in ("apis/apps/v1/namespaces/{}/deployments", "api/v1/namespaces/{}/services"):
        scripted.script["GET /" + path.format("sample")] = [{"items": []}]
        scripted.script["GET /" + path.format("istio-system")] = [system]
    assert outage.restore(narrow, "sample") == []


def test_without_a_namespace_all_of_them_must_be_readable(narrow: Fleet, scripted: Any) -> None:
    reviews = "/apis/authorization.k8s.io/v1"
    kind = {"name": "selfsubjectaccessreviews", "kind": "SelfSubjectAccessReview", "namespaced": False}
    scripted.script[f"GET {reviews}"] = [{"resources": [kind]}]
    scripted.script[f"POST {reviews}/selfsubjectaccessreviews"] = [{"status": {"allowed": False}}]
    with pytest.raises(GatheredError, match="may not list all"):
        outage.restore(narrow)
