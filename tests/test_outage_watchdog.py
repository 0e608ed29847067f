"""The watchdog's patch brings back what its own run left away, and nothing else; the script is run as a pod would."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from meshbook import manifests, outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError, WaitTimeout
from meshbook.outage import watchdog, watchjob
from meshbook.outage.modes import mode_of
from meshbook.outage.recorded import Recorded
from meshbook.outage.records import is_recorded
from meshbook.outage.subjects import Subject
from meshbook.outage.watchjob import NAME, Watch

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
    given = {"cluster": cluster, "deployment": "web", "namespace": NAMESPACE, "mode": mode}
    more = {"watchdog_s": 3.0} | more
    words = ("allow_outage", "named_workloads", "watchdog_s")
    given["safeguards"] = outage.Safeguards(**{word: more.pop(word) for word in words if word in more})
    return outage.Intent(**(given | more))


def _take(intent: outage.Intent) -> None:
    empty = {"mode": intent.mode, "context": "", "namespace": NAMESPACE, "deployment": "web", "replicas": 3}
    mode_of(intent).take(outage.Outage(**empty, run=intent.run))


def _undo(subject: Subject, intent: outage.Intent) -> list[Any]:
    mode, found = mode_of(intent), subject.read()
    assert isinstance(mode, Recorded)
    return watchjob.undo(subject, found, intent.run, mode.notes(subject, found))


def _watch(
    subject: Subject, intent: outage.Intent, patch: list[Any], tmp_path: Path
) -> subprocess.CompletedProcess[str]:
    """Run the Job's own command with its own environment; only times, the API's address and secrets are this test's."""
    watch = Watch(subject=subject, run=intent.run, after_s=0.1)
    (container,) = watchjob.job(watch, patch, NAME)["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    secrets = tmp_path / "var/run/secrets/kubernetes.io/serviceaccount"
    secrets.mkdir(parents=True, exist_ok=True)
    (secrets / "token").write_text(config["users"][0]["user"]["token"])
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    (secrets / "ca.crt").write_bytes(base64.b64decode(authority))
    server = urlsplit(intent.cluster.connection.server)
    here = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    here |= {"CONTAINER_SANDBOX_MOUNT_POINT": str(tmp_path), "PAUSE_S": "0", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        container["command"], env=environment | here, capture_output=True, text=True, timeout=20, check=False
    )


def _subject(cluster: Cluster, kind: str) -> Subject:
    return Subject(cluster=cluster, kind=kind, namespace=NAMESPACE, name="web")


@pytest.mark.parametrize(("mode", "kind"), [("scale-to-zero", "Deployment"), ("readiness-lost", "Service")])
def test_it_brings_back_what_its_run_left_away(cluster: Cluster, tmp_path: Path, mode: str, kind: str) -> None:
    intent, subject = _intent(cluster, mode), _subject(cluster, kind)
    before = subject.read()
    patch = _undo(subject, intent)
    _take(intent)
    found = _watch(subject, intent, patch, tmp_path)
    assert (found.returncode, found.stdout) == (0, "restored\n"), found.stderr
    after = subject.read()
    assert after["spec"] == before["spec"]
    assert not after["metadata"].get("annotations")
    again = _watch(subject, intent, patch, tmp_path)
    assert (again.returncode, again.stdout) == (0, "nothing was left to restore\n")
    assert subject.read() == after


@pytest.mark.parametrize(("mode", "kind"), [("scale-to-zero", "Deployment"), ("readiness-lost", "Service")])
def test_it_leaves_the_outage_of_another_run_alone(cluster: Cluster, tmp_path: Path, mode: str, kind: str) -> None:
    mine, subject = _intent(cluster, mode), _subject(cluster, kind)
    patch = _undo(subject, mine)
    _take(_intent(cluster, mode))
    away = subject.read()
    assert _watch(subject, mine, patch, tmp_path).stdout == "nothing was left to restore\n"
    assert subject.read() == away


def test_it_leaves_a_count_that_somebody_has_set_since(cluster: Cluster, tmp_path: Path) -> None:
    intent, subject = _intent(cluster, "scale-to-zero"), _subject(cluster, "Deployment")
    patch = _undo(subject, intent)
    _take(intent)
    cluster.scale("web", 1, NAMESPACE)
    _watch(subject, intent, patch, tmp_path)
    assert subject.read()["spec"]["replicas"] == 1


def test_where_only_pods_were_deleted_it_takes_the_record_off_and_changes_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    intent, subject = _intent(cluster, "pods-deleted"), _subject(cluster, "Deployment")
    before, patch = subject.read(), _undo(subject, intent)
    _take(intent)
    assert is_recorded(subject.read())
    assert _watch(subject, intent, patch, tmp_path).stdout == "restored\n"
    after = subject.read()
    assert (after["spec"], is_recorded(after)) == (before["spec"], False)


def _check(intent: outage.Intent) -> outage.Check:
    (check,) = watchdog.checks(intent, mode_of(intent))
    return check


def test_without_a_wish_for_it_nothing_is_asked(cluster: Cluster) -> None:
    intent = _intent(cluster, "scale-to-zero", watchdog_s=0.0)
    assert watchdog.checks(intent, mode_of(intent)) == []


def test_the_plan_says_with_whose_rights_it_watches(cluster: Cluster) -> None:
    intent = _intent(cluster, "scale-to-zero")
    assert (_check(intent).ok, _check(intent).saw) == (True, "after 3 s, with rights: its own in sample")
    cluster.apply(RIGHTS, NAMESPACE)
    assert _check(intent).saw == "after 3 s, with rights: rights are there in sample"


def test_a_deadline_that_may_be_over_before_anything_is_away_is_refused(cluster: Cluster) -> None:
    check = _check(_intent(cluster, "scale-to-zero", watchdog_s=1.0))
    assert (check.ok, "less than 3 s" in check.saw) == (False, True)


def test_where_the_user_may_not_give_rights_the_plan_says_so_before_anything_is_changed(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.create("ServiceAccount", {"metadata": {"name": "user", "namespace": NAMESPACE}})
    with _as_account(cluster, "user", tmp_path) as limited:
        intent = _intent(limited, "scale-to-zero", allow_outage=True, named_workloads=("web",))
        assert not _check(intent).ok
        assert "in sample this user may not create jobs.batch" in _check(intent).saw
        assert "create roles.rbac.authorization.k8s.io" in _check(intent).saw
        with pytest.raises(OutageError, match="a watchdog can be set") as error, outage.outage(intent):
            pytest.fail("the block must not begin")
    assert error.value.hint
    assert not is_recorded(_subject(cluster, "Deployment").read())


@contextmanager
def _as_account(cluster: Cluster, name: str, tmp_path: Path) -> Iterator[Cluster]:
    """Reach the same cluster with the token of an account that may read everything in the namespace."""
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    head = {"metadata": {"name": name}}
    cluster.create("rbac.authorization.k8s.io/v1/ClusterRole", head | {"rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
    binding = head | {"roleRef": reference, "subjects": subjects}
    cluster.create("rbac.authorization.k8s.io/v1/ClusterRoleBinding", binding)
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}/token"
    token = cluster.connection.request("POST", path, body={"spec": {}})[1]["status"]["token"]
    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    config["users"][0]["user"]["token"] = token
    (tmp_path / "as-account").write_text(yaml.safe_dump(config))
    fleet = Fleet.connect(["cluster1"], tmp_path / "as-account")
    yield fleet["cluster1"]
    fleet.close()


def test_a_mode_without_records_is_told_that_no_job_can_help(cluster: Cluster) -> None:
    assert _check(_intent(cluster, "cluster-down")).ok is None


def test_a_watchdog_that_does_not_start_leaves_everything_there_and_nothing_behind(cluster: Cluster) -> None:
    intent = _intent(cluster, "scale-to-zero", allow_outage=True, named_workloads=("web",), timeout_s=0.2, survivors=())
    mode = mode_of(intent)
    with pytest.raises(WaitTimeout, match="it has no pod yet"):
        watchdog.begin(intent, mode)
    assert _left(cluster) == 4
    watchdog.end(intent, mode)
    assert _left(cluster) == 0
    assert not is_recorded(_subject(cluster, "Deployment").read())


def _left(cluster: Cluster) -> int:
    kinds = (watchjob.JOB, watchjob.ACCOUNT_KIND, watchjob.ROLE, watchjob.BINDING)
    return sum(len(cluster.list(kind, NAMESPACE)) for kind in kinds)


def test_its_own_rights_are_for_one_object_and_go_with_its_job(cluster: Cluster) -> None:
    watch = Watch(subject=_subject(cluster, "Deployment"), run="r", after_s=3.0)
    owner = {"metadata": {"name": watch.name, "uid": "uid-of-the-job"}}
    role = cluster.create(watchjob.ROLE, watchjob.role(watch, owner))
    (rule,) = role["rules"]
    wanted = {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["web"], "verbs": ["patch"]}
    assert rule == wanted
    binding = cluster.create(watchjob.BINDING, watchjob.binding(watch, owner))
    for one in (role, binding):
        assert [found["uid"] for found in one["metadata"]["ownerReferences"]] == ["uid-of-the-job"]
    service = Watch(subject=_subject(cluster, "Service"), run="r", after_s=3.0)
    assert watchjob.role(service, owner)["rules"][0]["apiGroups"] == [""]


def test_its_rights_are_valid_and_no_more_than_it_needs(cluster: Cluster) -> None:
    assert {str(one.outcome) for one in cluster.apply(RIGHTS, NAMESPACE)} == {"created"}
    role = next(one for one in manifests.load(RIGHTS) if one["kind"] == "Role")
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"patch"}
    account = next(one for one in manifests.load(RIGHTS) if one["kind"] == "ServiceAccount")
    assert account["metadata"]["name"] == NAME


def test_its_job_is_whole(cluster: Cluster) -> None:
    subject, intent = _subject(cluster, "Deployment"), _intent(cluster, "scale-to-zero")
    watch = Watch(subject=subject, run=intent.run, after_s=120.0)
    cluster.create("ServiceAccount", {"metadata": {"name": NAME, "namespace": NAMESPACE}})
    job = cluster.create(watchjob.JOB, watchjob.job(watch, _undo(subject, intent), NAME))
    pod = job["spec"]["template"]
    assert len(job["metadata"]["name"]) <= 63
    assert pod["spec"]["restartPolicy"] == "OnFailure"
    assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    environment = {one["name"]: one["value"] for one in pod["spec"]["containers"][0]["env"]}
    assert environment["TARGET"] == "/apis/apps/v1/namespaces/sample/deployments/web"
    assert json.loads(environment["PATCH"])[0]["op"] == "test"
    assert job["spec"]["activeDeadlineSeconds"] > 120


def test_its_name_is_one_whatever_the_run_is_called(cluster: Cluster) -> None:
    watch = Watch(subject=_subject(cluster, "Deployment"), run="Run_1." + 60 * "x", after_s=3.0)
    assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?", watch.name)


def test_the_token_is_in_no_argument() -> None:
    assert "-H @-" in watchjob.SCRIPT
    assert "Bearer $(cat" not in watchjob.SCRIPT
