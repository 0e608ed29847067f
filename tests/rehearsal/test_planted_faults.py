"""Faults that the runbook must notice: each comes out *fail*, *inconclusive* or a clear error, never a pass."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ground import REVISION, Ground
from planted import FAULTS
from stages import GATEWAYS
from waits import until

from meshbook import Fleet, analysis, entries, mesh, probes
from meshbook.lab.faults import FaultClient, FaultSpec
from meshbook.lab.launch import LabState
from meshbook.objects import PROXY_CONTAINER

Run = Callable[..., Any]

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(240)]

MANIFESTS = Path(__file__).parents[2] / "manifests"
ANSWERED = "every source is answered by pods of cluster1 (v1) and cluster2 (v2)"


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    """A copy of the manifests, to be spoiled."""
    return Path(shutil.copytree(MANIFESTS, tmp_path / "manifests"))


def _spoil(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file.name} has no {old!r} to be spoiled"
    file.write_text(text.replace(old, new))


def test_both_versions_in_each_cluster_do_not_pass_as_a_mesh_that_is_cut(
    run: Run, served: LabState, fleet: Fleet
) -> None:
    fleet.create_namespace("islands", revision=REVISION)
    try:
        with FAULTS["both versions everywhere, mesh cut"].plant(Ground(fleet=fleet, namespace="islands")):
            outcome = run("1", "-p", "namespace=islands", kubeconfig=served.kubeconfig)
    finally:
        fleet.each(lambda cluster: cluster.delete_object("Namespace", "islands"))
    assert outcome.exit_code == 1, outcome.said
    (verdict,) = (one for one in outcome.notebooks["01_connectivity"]["verdicts"] if one["claim"] == ANSWERED)
    assert verdict["outcome"] == "fail"
    assert re.search(r"cluster1 → cluster2: 0 of \d+; cluster2 → cluster1: 0 of \d+", verdict["reason"])
    assert "No request crossed between the clusters" in verdict["reason"]
    assert verdict["reason"].startswith("cluster1 → cluster2: cluster1 has no remote secret for cluster2")


def test_a_wrong_revision_fails_preflight_and_pods_without_sidecar_do_not_pass_as_a_mesh(
    run: Run, lab: LabState
) -> None:
    few = ("-p", "settle_timeout_s=1", "-p", "mesh_requests=4", "-p", "requests=4")
    planted = ("-p", "namespace=unmeshed", "-p", "revision=asm-0000-0")
    outcome = run("0", "1", "--keep-going", *planted, *few, kubeconfig=lab.kubeconfig)
    assert outcome.exit_code == 1, outcome.said
    webhook = "every cluster has the injection webhook of revision asm-0000-0"
    assert outcome.outcomes("00_preflight")[webhook] == "fail"
    claims = outcome.outcomes("01_connectivity")
    assert claims["every pod in unmeshed has a sidecar of revision asm-0000-0"] == "fail"
    assert [claim for claim, found in claims.items() if found == "pass"] == ["every pod that was deployed is ready"]


def test_a_vip_that_never_answers_fails_with_what_it_last_saw_and_the_rest_is_judged(
    run: Run, served: LabState, manifests: Path
) -> None:
    _spoil(manifests / "multicluster" / "backendconfig.yaml", "port: 15021", "port: 15999")
    deadline = ("-p", "answer_timeout_s=4", "-p", f"manifests={manifests}")
    outcome = run("2", *deadline, kubeconfig=served.kubeconfig)
    assert outcome.exit_code == 1, outcome.said
    claims = outcome.outcomes("02_external_access")
    assert (claims["requests from outside have an address to go to"], claims["each address answers"]) == (
        "pass",
        "fail",
    )
    assert claims[ANSWERED] == "fail"
    assert claims["every ingress gateway answers, asked one by one inside its own cluster"] == "pass"
    assert "502" in outcome.said


def test_each_clusters_address_survives_its_application_and_not_its_ingress_gateways(
    served: LabState, fleet: Fleet
) -> None:
    folder, here = MANIFESTS / "loadbalancer", fleet["cluster1"]
    fleet.apply(folder, GATEWAYS)
    found = entries.find(fleet, "load-balancer", GATEWAYS, timeout_s=10)
    until(lambda: _versions(found) == [{"v1", "v2"}] * 2)
    try:
        here.scale("helloworld-v1", 0, "sample")
        until(lambda: _versions(found) == [{"v2"}] * 2)
        here.scale("istio-ingressgateway", 0, GATEWAYS)
        until(lambda: _versions(found) == [set(), {"v2"}])
        answers = mesh.looked_up(fleet, "sample", probes.curl_from_here, found, 4, timeout_s=0.3)
        causes = mesh.why_outside(fleet, found, answers, namespace="sample", gateway_namespace=GATEWAYS)
        assert "cluster1 has no ready ingress gateway: Deployment istio-ingressgateway has 0 replicas." in [
            one.seen for one in causes if one.state == mesh.CAUSE
        ]
    finally:
        here.scale("helloworld-v1", 1, "sample")
        here.scale("istio-ingressgateway", 2, GATEWAYS)
        fleet.delete(folder, GATEWAYS)
        for namespace in ("sample", GATEWAYS):
            here.wait_for_rollout(namespace, timeout_s=20)


def _versions(found: Sequence[mesh.Entry]) -> list[set[str]]:
    """Return which versions each entry gets good answers from."""
    answers = probes.curl_from_here(found, 12, timeout_s=0.3)
    good = answers[answers["error"] == ""]
    return [set(good.loc[good["source"] == one.source, "version"]) for one in found]


def test_one_of_two_gateways_that_hangs_is_seen_in_the_cluster_that_is_no_backend(
    served: LabState, fleet: Fleet
) -> None:
    pods = mesh.pods_by_name(fleet, "sample")
    gateways = mesh.ingress_gateways(fleet, [mesh.Entry(url="http://vip/hello")], GATEWAYS)
    hung = next(one for one in gateways if one.cluster == "cluster1")
    stopped = FaultSpec(kind="freeze", context="cluster1", namespace=GATEWAYS, pod=hung.pod, container=PROXY_CONTAINER)
    with FaultClient.of(served.root).injected(stopped):
        answers = mesh.answered_by(probes.curl_gateways(fleet, gateways, timeout_s=0.7), pods)
    verdict = analysis.gateways_answer(answers, ["cluster1", "cluster2"])
    assert verdict.outcome == "fail"
    assert f"cluster1, gateway {hung.pod}: 0 of 12 requests got a good answer" in verdict.reason
    cells = analysis.coverage(answers, {"cluster1": "v1", "cluster2": "v2"})
    found = set(zip(cells["path"], cells["state"], strict=True))
    assert found == {(one.path, analysis.REFUTED if one == hung else analysis.PROVEN) for one in gateways}


def test_no_reachable_cluster_is_named_with_its_context(run: Run, lab: LabState, tmp_path: Path) -> None:
    away = json.loads(lab.kubeconfig.read_text())
    for entry in away["clusters"]:
        entry["cluster"]["server"] = "https://127.0.0.1:9"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(away))
    outcome = run(kubeconfig=kubeconfig)
    assert outcome.exit_code == 2, outcome.said
    assert "cluster1" in outcome.said
    assert "Traceback" not in outcome.said


def test_a_probe_cut_in_its_middle_loses_no_row_and_does_not_pass(served: LabState, fleet: Fleet) -> None:
    cluster = fleet["cluster1"]
    path = cluster.resource("Pod").path("sample", cluster.ready_pod("app=sleep", "sample"))

    def cut() -> None:
        time.sleep(0.5)
        cluster.connection.request("DELETE", path, query={"gracePeriodSeconds": "0"})

    cutter = threading.Thread(target=cut)
    cutter.start()
    answers = probes.curl_from_pods(fleet, "http://helloworld.sample:5000/hello", 2000, namespace="sample")
    cutter.join()
    lost = answers[answers["error"] == "lost"]
    assert len(answers) == 4000
    assert set(lost["source"]) == {"cluster1"}
    assert analysis.all_answered(answers[answers["source"] == "cluster1"]).outcome == "inconclusive"
