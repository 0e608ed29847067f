"""A watchdog restores what its own run left down, and nothing else; its Job's command is run as a pod would run it.

The API servers here run no Jobs: a fake keeps what a watchdog consists of.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from outage_fleet import NAMESPACE, intent, interrupted, must_not_begin, record, replicas, shape

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError, WaitTimeout

JOB = "batch/v1/Job"
KINDS = (JOB, "ServiceAccount", *(f"rbac.authorization.k8s.io/v1/{one}" for one in ("Role", "RoleBinding")))
Json = dict[str, Any]


class Jobs:
    """Keeps the objects of watchdogs in front of the API servers, which have none; a Job's pod is ready at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[tuple[str, str], Json] = {}
        self.made: list[tuple[str, Json]] = []
        self.ready = 1
        for verb in ("create", "get", "patch", "delete_object"):
            monkeypatch.setattr(Cluster, verb, self._in_front_of(verb))
        monkeypatch.setattr(Cluster, "has_kind", lambda _, kind: kind in KINDS)

    def _in_front_of(self, verb: str) -> Any:
        real = getattr(Cluster, verb)

        def asked(cluster: Cluster, kind: str, *args: Any, **options: Any) -> Any:
            mine = kind in KINDS
            return getattr(self, verb)(kind, *args) if mine else real(cluster, kind, *args, **options)

        return asked

    def create(self, kind: str, found: Json) -> Json:
        name = found["metadata"]["name"]
        made = found | {
            "metadata": found["metadata"] | {"uid": f"uid of {kind} {name}"},
            "status": {"ready": self.ready},
        }
        self.kept[kind, name] = made
        self.made.append((kind, made))
        return made

    def get(self, kind: str, name: str, *_: Any) -> Json:
        return self.kept[kind, name]

    def patch(self, kind: str, name: str, change: Json) -> Json:
        self.kept[kind, name]["metadata"] |= change["metadata"]
        return self.kept[kind, name]

    def delete_object(self, kind: str, name: str, *_: Any) -> bool:
        return self.kept.pop((kind, name), None) is not None

    def run(self, cluster: Cluster, tmp_path: Path) -> str:
        """Run the last Job's own command; only times, the API's address and secrets are this test's."""
        job = [found for kind, found in self.made if kind == JOB][-1]
        (container,) = job["spec"]["template"]["spec"]["containers"]
        environment = {one["name"]: one["value"] for one in container["env"]}
        config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
        secrets = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount"
        secrets.mkdir(parents=True, exist_ok=True)
        (secrets / "token").write_text(config["users"][0]["user"]["token"])
        authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
        (secrets / "ca.crt").write_bytes(base64.b64decode(authority))
        server = urlsplit(cluster.connection.server)
        here = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
        here |= {
            "CONTAINER_SANDBOX_MOUNT_POINT": str(tmp_path),
            "AFTER_S": "0",
            "PAUSE_S": "0",
            "PATH": "/usr/bin:/bin",
        }
        ran = subprocess.run(
            container["command"], env=environment | here, capture_output=True, text=True, timeout=20, check=True
        )
        return ran.stdout


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    return Jobs(monkeypatch)


@pytest.mark.parametrize("mode", ["scale-to-zero", "readiness-lost"])
def test_it_restores_what_its_run_left_down_and_nothing_twice(
    fleet: Fleet, target: Cluster, jobs: Jobs, tmp_path: Path, mode: str
) -> None:
    before = shape(target)
    interrupted(intent(fleet, mode, watchdog_s=30.0))
    assert jobs.run(target, tmp_path) == "restored\n"
    assert shape(target) == before
    assert jobs.run(target, tmp_path) == "nothing was left to restore\n"
    assert shape(target) == before


def test_it_leaves_the_outage_of_another_run_alone(fleet: Fleet, target: Cluster, jobs: Jobs, tmp_path: Path) -> None:
    with outage.outage(intent(fleet, watchdog_s=30.0)):
        pass
    with outage.outage(intent(fleet)):
        down = shape(target)
        assert jobs.run(target, tmp_path) == "nothing was left to restore\n"
        assert shape(target) == down


def test_it_leaves_a_count_that_somebody_has_set_since(
    fleet: Fleet, target: Cluster, jobs: Jobs, tmp_path: Path
) -> None:
    interrupted(intent(fleet, watchdog_s=30.0))
    target.scale("web", 1, NAMESPACE)
    assert jobs.run(target, tmp_path) == "nothing was left to restore\n"
    assert replicas(target) == 1


def test_it_watches_before_anything_is_taken_down_and_leaves_nothing_behind(
    fleet: Fleet, target: Cluster, jobs: Jobs
) -> None:
    with outage.outage(intent(fleet, watchdog_s=30.0)):
        assert Counter(kind for kind, _ in jobs.kept) == dict.fromkeys(KINDS, 1)
        (job,) = [found for (kind, _), found in jobs.kept.items() if kind == JOB]
        for (kind, _), found in jobs.kept.items():
            owners = [one["uid"] for one in found["metadata"].get("ownerReferences") or []]
            assert owners == ([] if kind == JOB else [job["metadata"]["uid"]])
    assert jobs.kept == {}
    assert replicas(target) == 2


def test_one_that_does_not_start_leaves_everything_up_and_nothing_behind(
    fleet: Fleet, target: Cluster, jobs: Jobs
) -> None:
    jobs.ready = 0
    with pytest.raises(WaitTimeout, match=r"it has no pod yet[\s\S]*nothing was taken down"):
        must_not_begin(intent(fleet, watchdog_s=30.0, timeout_s=0.2))
    assert (jobs.kept, record(target), replicas(target)) == ({}, {}, 2)


def test_an_outage_that_its_watchdog_has_cut_short_is_no_measurement(
    fleet: Fleet, target: Cluster, jobs: Jobs, tmp_path: Path
) -> None:
    with (
        pytest.raises(OutageError, match=r"was restored by its watchdog, 30 s after[\s\S]*watchdog_s is to be longer"),
        outage.outage(intent(fleet, watchdog_s=30.0)),
    ):
        jobs.run(target, tmp_path)


@pytest.mark.parametrize(("mode", "group"), [("scale-to-zero", "apps"), ("readiness-lost", "")])
def test_its_rights_are_for_one_object(fleet: Fleet, jobs: Jobs, mode: str, group: str) -> None:
    with outage.outage(intent(fleet, mode, watchdog_s=30.0)):
        pass
    made = dict(jobs.made)
    ((rule,), reference) = made[KINDS[2]]["rules"], made[KINDS[3]]["roleRef"]
    assert (rule["apiGroups"], rule["resourceNames"], rule["verbs"]) == ([group], ["web"], ["patch"])
    (account,) = made[KINDS[3]]["subjects"]
    pod = made[JOB]["spec"]["template"]["spec"]
    assert account["name"] == pod["serviceAccountName"] == made["ServiceAccount"]["metadata"]["name"]
    assert reference["name"] == made[KINDS[2]]["metadata"]["name"]


def test_its_job_ends_is_outside_the_mesh_and_keeps_its_token_out_of_arguments(fleet: Fleet, jobs: Jobs) -> None:
    with outage.outage(intent(fleet, watchdog_s=120.0, run="Run_1." + 50 * "x")):
        pass
    job = dict(jobs.made)[JOB]
    pod = job["spec"]["template"]
    assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?", job["metadata"]["name"])
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    assert job["spec"]["activeDeadlineSeconds"] > 120
    (container,) = pod["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["TARGET"] == "/apis/apps/v1/namespaces/sample/deployments/web"
    assert json.loads(environment["PATCH"])[0]["op"] == "test"
    assert "-H @-" in container["command"][-1]
    assert "Bearer $(cat" not in container["command"][-1]


def _refused(wanted: outage.Intent) -> str:
    with pytest.raises(OutageError, match="a watchdog can be set") as error:
        must_not_begin(wanted)
    return str(error.value)


def test_a_cluster_without_jobs_is_refused_in_one_line_before_anything_is_changed(
    fleet: Fleet, target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "has_kind", lambda _, kind: kind != JOB)
    before = shape(target)
    assert "this cluster has no Jobs (batch/v1)" in _refused(intent(fleet, watchdog_s=30.0)).splitlines()[0]
    assert shape(target) == before


def test_a_deadline_that_may_be_over_before_anything_is_down_is_refused(fleet: Fleet, jobs: Jobs) -> None:
    assert "less than 3 s" in _refused(intent(fleet, watchdog_s=1.0))


def test_a_user_who_may_not_give_rights_is_refused(fleet: Fleet, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def can_i(_: Cluster, verb: str, resource: str, namespace: str = "") -> bool:
        return not resource.startswith("roles.")

    monkeypatch.setattr(Cluster, "can_i", can_i)
    told = _refused(intent(fleet, watchdog_s=30.0))
    assert "in sample this user may not create roles.rbac.authorization.k8s.io, delete roles." in told
    assert jobs.made == []


@pytest.mark.parametrize("mode", ["pods-deleted", "cluster-down"])
def test_where_no_job_can_help_none_is_set_and_the_plan_says_so(fleet: Fleet, jobs: Jobs, mode: str) -> None:
    (check,) = [one for one in outage.plan(intent(fleet, mode, watchdog_s=30.0)).checks if "watchdog" in one.name]
    assert (check.ok, "no Job can help" in check.saw) == (None, True)
    if mode == "pods-deleted":
        with outage.outage(intent(fleet, mode, watchdog_s=30.0)):
            assert jobs.made == []
