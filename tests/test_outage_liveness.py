"""What a living run has taken away is left to it; what a dead one left away comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, GatheredError, OutageError
from meshbook.outage import liveness
from meshbook.outage.modes import mode_of

NAMESPACE = "sample"
LABELS = {"app": "web"}


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RENEW_S": 0.1, "LEASE_S": 1, "_LOOK_S": 0.05}.items():
        monkeypatch.setattr(liveness, name, value)


@pytest.fixture
def cluster(bare_fleet: Fleet, hands: Any) -> Iterator[Cluster]:
    cluster = bare_fleet["cluster1"]
    cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})
    cluster.create_namespace(NAMESPACE)
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    cluster.create("Deployment", {"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec})
    with hands(cluster):
        cluster.wait_for_rollout(NAMESPACE, timeout_s=10)
        yield cluster


def intent(cluster: Cluster) -> outage.Intent:
    return outage.Intent(cluster=cluster, deployment="web", namespace=NAMESPACE, timeout_s=10)


def leases(cluster: Cluster) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.list(liveness.LEASE, NAMESPACE)]


def replicas(cluster: Cluster) -> int:
    return int(cluster.get("Deployment", "web", NAMESPACE)["spec"]["replicas"])


@contextmanager
def elsewhere(cluster: Cluster) -> Iterator[outage.Outage]:
    """Give an outage that another run holds."""
    with outage.outage(intent(cluster)) as taken:
        yield taken


def killed(cluster: Cluster, renewed: datetime | None = None) -> str:
    """Leave everything as a runner does that was killed; return its run."""
    wanted = intent(cluster)
    given = {"mode": wanted.mode, "context": "cluster1", "namespace": NAMESPACE, "deployment": "web", "replicas": 2}
    mode_of(wanted).take(outage.Outage(**given, run=wanted.run))
    stamp = (renewed or datetime.now(UTC)).isoformat(timespec="microseconds")
    metadata = {"name": f"meshbook-outage-{wanted.run}", "namespace": NAMESPACE}
    cluster.create(liveness.LEASE, {"metadata": metadata, "spec": {"holderIdentity": wanted.run, "renewTime": stamp}})
    return wanted.run


def test_a_run_shows_that_it_lives_for_as_long_as_its_outage(cluster: Cluster) -> None:
    with elsewhere(cluster) as taken:
        assert leases(cluster) == [f"meshbook-outage-{taken.run}"]
        (left,) = outage.pending_rollbacks(cluster, NAMESPACE)
        assert left.lease_renewed
    assert leases(cluster) == []


def test_nobody_brings_back_what_a_living_run_has_taken_away(cluster: Cluster) -> None:
    with elsewhere(cluster) as taken:
        with pytest.raises(GatheredError, match=f"belongs to run {taken.run}, which is alive"):
            outage.restore(cluster, NAMESPACE)
        with (
            pytest.raises(OutageError, match="which is alive: nothing was restored"),
            outage.outage(intent(cluster)),
        ):
            pytest.fail("a second outage must not begin")
        assert replicas(cluster) == 0
    assert replicas(cluster) == 2


def test_unless_it_is_forced(cluster: Cluster) -> None:
    with elsewhere(cluster):
        (restored,) = outage.restore(cluster, NAMESPACE, timeout_s=10, force=True)
        assert restored.outcome == "restored"
        assert replicas(cluster) == 2


def test_what_a_dead_run_left_away_comes_back_after_a_second_look_at_its_lease(cluster: Cluster) -> None:
    killed(cluster)
    begun = time.monotonic()
    (restored,) = outage.restore(cluster, NAMESPACE, timeout_s=10)
    assert restored.outcome == "restored"
    assert time.monotonic() - begun >= liveness.LEASE_S
    assert leases(cluster) == []


def test_who_died_long_ago_is_not_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "LEASE_S", 60)
    killed(cluster, datetime.now(UTC) - timedelta(hours=1))
    begun = time.monotonic()
    assert len(outage.restore(cluster, NAMESPACE, timeout_s=10)) == 1
    assert time.monotonic() - begun < 30


def test_a_run_that_ends_meanwhile_is_not_in_the_way(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "LEASE_S", 60)
    run = killed(cluster)
    ending = threading.Timer(0.3, cluster.delete_object, [liveness.LEASE, f"meshbook-outage-{run}", NAMESPACE])
    ending.start()
    assert len(outage.restore(cluster, NAMESPACE, timeout_s=10)) == 1
    ending.join()


def test_who_may_not_write_leases_takes_away_without(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Cluster.create

    def refused(self: Cluster, kind: str, found: Any) -> Any:
        if kind == liveness.LEASE:
            raise ClusterError("leases are forbidden", code=403)
        return real(self, kind, found)

    monkeypatch.setattr(Cluster, "create", refused)
    with elsewhere(cluster):
        assert replicas(cluster) == 0
        assert leases(cluster) == []
    assert replicas(cluster) == 2
