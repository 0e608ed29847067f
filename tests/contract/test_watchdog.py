"""An outage's watchdog, where Jobs run (``--contexts a,b``, ``--apiserver real``): nobody restores but it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waits import until

from meshbook.clusters import Cluster, Fleet
from meshbook.objects import annotations_of

WATCHDOG_S = 20.0
PATIENCE_S = 120.0
KINDS = ("batch/v1/Job", "ServiceAccount", *(f"rbac.authorization.k8s.io/v1/{one}" for one in ("Role", "RoleBinding")))
APPLICATION = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: web, image: docker.io/curlimages/curl:8.11.1, command: [sleep, "1000000"]}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
PROGRAM = """
    import sys, time
    from meshbook import Fleet, outage
    contexts, kubeconfig, namespace, mode, watchdog_s = sys.argv[1:]
    fleet = Fleet.connect(contexts.split(","), kubeconfig)
    safeguards = outage.Safeguards(allow_outage=True, watchdog_s=float(watchdog_s))
    given = {"cluster": fleet.clusters[0], "deployment": "web", "namespace": namespace, "survivors": tuple(fleet)}
    with outage.outage(outage.Intent(**given, mode=mode, safeguards=safeguards)):
        print("down", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def fleet(clusters: Any, apis: Any, tmp_path: Path) -> Iterator[Fleet]:
    """The application on both clusters, in a namespace of its own."""
    fleet = Fleet.connect(clusters.contexts, clusters.kubeconfig or "")
    if not all(fleet.each(lambda cluster: cluster.has_kind(KINDS[0])).values()):
        pytest.skip("these clusters run no Jobs")
    (tmp_path / "web.yaml").write_text(APPLICATION)
    namespace = _namespace(apis)
    try:
        fleet.create_namespace(namespace)
        fleet.apply(tmp_path / "web.yaml", namespace)
        fleet.wait_for_rollout(namespace, timeout_s=PATIENCE_S)
        yield fleet
    finally:
        fleet.each(lambda cluster: cluster.delete_object("Namespace", namespace))
        fleet.close()


def _namespace(apis: Any) -> str:
    return f"{next(iter(apis.values())).namespace}-watchdog"


def _shape(cluster: Cluster, namespace: str) -> list[Any]:
    found = [cluster.get(kind, "web", namespace) for kind in ("Deployment", "Service")]
    kept = [{key: text for key, text in annotations_of(one).items() if "meshbook" in key} for one in found]
    return [found[0]["spec"]["replicas"], found[1]["spec"]["selector"], kept]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["scale-to-zero", "readiness-lost"])
def test_what_a_killed_run_left_down_is_restored_by_its_job(fleet: Fleet, clusters: Any, apis: Any, mode: str) -> None:
    cluster, namespace = fleet.clusters[0], _namespace(apis)
    before = _shape(cluster, namespace)
    given = [",".join(clusters.contexts), clusters.kubeconfig or "", namespace, mode, f"{WATCHDOG_S:g}"]
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), *given]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as runner:
        assert runner.stdout is not None
        said = runner.stdout.readline()
        runner.kill()
        assert said == "down\n", said + runner.stdout.read()
    assert _shape(cluster, namespace) != before
    until(lambda: _shape(cluster, namespace) == before, WATCHDOG_S + PATIENCE_S)
    (job,) = cluster.list(KINDS[0], namespace)
    cluster.delete_object(KINDS[0], job["metadata"]["name"], namespace)
    cluster.wait_until(
        "what was made for the Job gone",
        lambda: ((True if not _left(cluster, namespace) else None), ", ".join(_left(cluster, namespace))),
        PATIENCE_S,
    )


def _left(cluster: Cluster, namespace: str) -> list[str]:
    names = [one["metadata"]["name"] for kind in KINDS for one in cluster.list(kind, namespace)]
    return [name for name in names if name.startswith("meshbook-watchdog")]
