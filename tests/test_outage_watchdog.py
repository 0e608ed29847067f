"""The watchdog's patch brings back what its own run left away, and nothing else; the script is run as a pod would."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshbook import manifests, outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError
from meshbook.outage import watchdog
from meshbook.outage.modes import mode_of
from meshbook.outage.records import AWAY
from meshbook.outage.subjects import Subject

NAMESPACE = "sample"
LABELS = {"app": "web"}
RIGHTS = Path(__file__).parents[1] / "manifests" / "watchdog"


@pytest.fixture
def cluster(bare_fleet: Fleet) -> Cluster:
    cluster = bare_fleet["cluster1"]
    cluster.create_namespace(NAMESPACE)
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": LABELS}, "template": template}
    cluster.create("Deployment", {"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec})
    service = {"selector": LABELS, "ports": [{"port": 80}]}
    cluster.create("Service", {"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": service})
    return cluster


def _intent(cluster: Cluster, mode: str, **more: Any) -> outage.Intent:
    given = {"cluster": cluster, "deployment": "web", "namespace": NAMESPACE, "mode": mode, "watchdog_s": 0.1}
    return outage.Intent(**(given | more))


def _take(intent: outage.Intent) -> None:
    empty = {"mode": intent.mode, "context": "", "namespace": NAMESPACE, "deployment": "web", "replicas": 3}
    mode_of(intent).take(outage.Outage(**empty, run=intent.run))


def _watch(
    subject: Subject, intent: outage.Intent, patch: list[Any], tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run the Job's own command with its own environment; only the API's address and secrets are this test's."""
    (container,) = watchdog.job(subject, patch, intent)["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    (tmp_path / "token").write_text(config["users"][0]["user"]["token"])
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(authority))
    here = {"API": intent.cluster.connection.server, "SECRETS": str(tmp_path), "PAUSE_S": "0", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        container["command"], env=environment | here, capture_output=True, text=True, timeout=20, check=False
    )


def _subject(cluster: Cluster, kind: str) -> Subject:
    return Subject(cluster=cluster, kind=kind, namespace=NAMESPACE, name="web")


@pytest.mark.parametrize(("mode", "kind"), [("scale-to-zero", "Deployment"), ("readiness-lost", "Service")])
def test_it_brings_back_what_its_run_left_away(cluster: Cluster, tmp_path: Path, mode: str, kind: str) -> None:
    intent, subject = _intent(cluster, mode), _subject(cluster, kind)
    before = subject.read()
    patch = watchdog.undo(subject, before, intent.run)
    _take(intent)
    found = _watch(subject, intent, patch, tmp_path)
    assert (found.returncode, found.stdout) == (0, "brought back\n"), found.stderr
    after = subject.read()
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("annotations")
    again = _watch(subject, intent, patch, tmp_path)
    assert (again.returncode, again.stdout) == (0, "nothing was left to bring back\n")
    assert subject.read() == after


@pytest.mark.parametrize(("mode", "kind"), [("scale-to-zero", "Deployment"), ("readiness-lost", "Service")])
def test_it_leaves_the_outage_of_another_run_alone(cluster: Cluster, tmp_path: Path, mode: str, kind: str) -> None:
    mine, subject = _intent(cluster, mode), _subject(cluster, kind)
    patch = watchdog.undo(subject, subject.read(), mine.run)
    _take(_intent(cluster, mode))
    away = subject.read()
    assert _watch(subject, mine, patch, tmp_path).stdout == "nothing was left to bring back\n"
    assert subject.read() == away


def test_it_leaves_a_count_that_somebody_has_set_since(cluster: Cluster, tmp_path: Path) -> None:
    intent, subject = _intent(cluster, "scale-to-zero"), _subject(cluster, "Deployment")
    patch = watchdog.undo(subject, subject.read(), intent.run)
    _take(intent)
    cluster.scale("web", 1, NAMESPACE)
    _watch(subject, intent, patch, tmp_path)
    assert subject.read()["spec"]["replicas"] == 1


def test_where_no_jobs_are_run_an_outage_with_a_watchdog_is_refused(cluster: Cluster) -> None:
    intent = _intent(cluster, "scale-to-zero", allow_outage=True)
    with pytest.raises(OutageError, match="runs no Jobs"), outage.taken_away(intent):
        pytest.fail("the block must not begin")
    assert AWAY not in str(cluster.get("Service", "web", NAMESPACE))


def test_its_rights_are_valid_and_no_more_than_it_needs(cluster: Cluster) -> None:
    assert {str(one.outcome) for one in cluster.apply(RIGHTS, NAMESPACE)} == {"created"}
    role = next(one for one in manifests.load(RIGHTS) if one["kind"] == "Role")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"patch"}
    account = next(one for one in manifests.load(RIGHTS) if one["kind"] == "ServiceAccount")
    assert account["metadata"]["name"] == watchdog.ACCOUNT


def test_its_job_is_whole(cluster: Cluster) -> None:
    subject, intent = _subject(cluster, "Deployment"), _intent(cluster, "scale-to-zero", watchdog_s=120.0)
    job = watchdog.job(subject, watchdog.undo(subject, subject.read(), intent.run), intent)
    pod = job["spec"]["template"]
    assert len(job["metadata"]["name"]) <= 63
    assert pod["spec"]["restartPolicy"] == "OnFailure"
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    environment = {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}
    assert environment["TARGET"] == "/apis/apps/v1/namespaces/sample/deployments/web"
    assert json.loads(environment["PATCH"])[0]["op"] == "test"
    assert job["spec"]["activeDeadlineSeconds"] > 120
