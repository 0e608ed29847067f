"""The article's commands, unchanged and from first to last, by stock kubectl and gcloud."""

from __future__ import annotations

import json
import re
import shutil
import stat
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.envoy

REPOSITORY = Path(__file__).parents[2]
SAMPLES = Path("asm_output/istio-1.17.5-asm.9/samples")
WAIT_S = 30.0

SET_SAMPLE = r"""
for CTX in ${CTX_CLUSTER1} ${CTX_CLUSTER2}
do
    kubectl create --context=${CTX} namespace sample
    kubectl label --context=${CTX} namespace sample \
        istio-injection- istio.io/rev=asm-1175-9 --overwrite
    kubectl apply --context=${CTX} \
        -f asm_output/istio-1.17.5-asm.9/samples/sleep/sleep.yaml -n sample
done
kubectl create --context=${CTX_CLUSTER1} \
     -f asm_output/istio-1.17.5-asm.9/samples/helloworld/helloworld.yaml \
     -l service=helloworld -n sample
kubectl create --context=${CTX_CLUSTER1} \
     -f asm_output/istio-1.17.5-asm.9/samples/helloworld/helloworld.yaml \
     -l version=v1 -n sample
kubectl create --context=${CTX_CLUSTER2} \
     -f asm_output/istio-1.17.5-asm.9/samples/helloworld/helloworld.yaml \
     -l service=helloworld -n sample
kubectl create --context=${CTX_CLUSTER2} \
     -f asm_output/istio-1.17.5-asm.9/samples/helloworld/helloworld.yaml \
     -l version=v2 -n sample
"""
LOOP = r"""
kubectl exec --context="${CTX_CLUSTER%d}" -n sample -c sleep \
    "$(kubectl get pod --context="${CTX_CLUSTER%d}" -n sample -l \
    app=sleep -o jsonpath='{.items[0].metadata.name}')" \
    -- /bin/sh -c 'for i in $(seq 1 20); do curl -sS helloworld.sample:5000/hello; done'
"""
ENABLE = "gcloud container hub ingress enable"
GATEWAY_NAMESPACE = """
for CTX in ${CTX_CLUSTER1} ${CTX_CLUSTER2}
do
    kubectl create --context=${CTX} namespace nifc-istio-gateway
    kubectl label --context=${CTX} namespace nifc-istio-gateway istio-injection- istio.io/rev=asm-1175-9 --overwrite
done
"""
GATEWAY = r"""
for CTX in ${CTX_CLUSTER1} ${CTX_CLUSTER2}
do
    kubectl apply --context=${CTX} \
        -f nifc-istio-ingressgateway -n nifc-istio-gateway
done
"""
ROUTING = r"""
for CTX in ${CTX_CLUSTER1} ${CTX_CLUSTER2}
do
    kubectl apply --context=${CTX} \
        -f asm_output/istio-1.17.5-asm.9/samples/helloworld/helloworld-gateway.yaml -n sample
done
"""
MULTICLUSTER = (
    "kubectl apply -f nifc-istio-ingressgateway/multicluster -n  nifc-istio-gateway --context=${CTX_CLUSTER2}"
)
VIP = (
    "kubectl get MultiClusterIngress -o custom-columns=VIP:status.VIP --no-headers"
    "         --context=${CTX_CLUSTER2} -n nifc-istio-gateway"
)
FROM_OUTSIDE = "for x in `seq 1 10`; do curl http://%s/hello; done"
DEPLOYMENTS = "kubectl -n sample get deploy --context=${CTX_CLUSTER1}"
STOP = "kubectl scale deployments helloworld-v1 --replicas=0 -n sample --context=${CTX_CLUSTER1}"
BACK = "kubectl scale deployments helloworld-v1 --replicas=1 -n sample --context=${CTX_CLUSTER1}"


class Walk:
    """The commands in their order; what each of them showed is kept by name."""

    def __init__(self, shell: Any, folder: Path) -> None:
        self.shell, self.folder = shell, folder
        self.shown: dict[str, Any] = {}

    def step(self, name: str, command: str) -> Any:
        self.shown[name] = self.shell(command, cwd=self.folder)
        return self.shown[name]

    def until(self, command: str, seen: str) -> str:
        return str(self.shell.until(command, seen, cwd=self.folder))

    def rolled_out(self, context: str, namespace: str) -> None:
        done = self.shell(f"kubectl --context={context} -n {namespace} rollout status deployment --timeout=30s")
        assert done.code == 0, done

    def all(self) -> None:
        self.step("sample", "./set_sample.sh")
        for context in ("cluster1", "cluster2"):
            self.rolled_out(context, "sample")
        self.until(LOOP % (1, 1), "(?s)v1.*v2|v2.*v1")
        self.step("loop 1", LOOP % (1, 1))
        self.step("loop 2", LOOP % (2, 2))
        self._enable()
        self.step("namespace", GATEWAY_NAMESPACE)
        self.step("gateway", GATEWAY)
        self.step("routing", ROUTING)
        self.step("multicluster", MULTICLUSTER)
        self.rolled_out("cluster2", "nifc-istio-gateway")
        vip = self.until(VIP, r"\d+\.\d+\.\d+\.\d+")
        self.step("vip", VIP)
        for version in ("v1", "v2"):
            self.until(f"curl -sS http://{vip}/hello", version)
        self.step("outside", FROM_OUTSIDE % vip)
        self.step("deployments", DEPLOYMENTS)
        self.step("stop", STOP)
        self.until("kubectl -n sample get pods -l version=v1 -o name --context=cluster1 | wc -l", "^0$")
        self.step("outside, without v1", FROM_OUTSIDE % vip)
        self.step("back", BACK)
        self.rolled_out("cluster1", "sample")
        self.until(f"curl -sS http://{vip}/hello", "v1")

    def _enable(self) -> None:
        if shutil.which("gcloud") and self.shell.name == "kubectl":  # once: it waits some seconds of its own
            self.shown["enable"] = self.shell.ask(ENABLE, "Please enter your numeric choice:", "2\n")
            return
        environment = self.shell.environment
        places = f"projects/{environment['CLOUDSDK_CORE_PROJECT']}/locations"
        spec = {"multiclusteringress": {"configMembership": f"{places}/us-central1/memberships/nifc-anthosgke-cls"}}
        url = f"{environment['CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB']}v1/{places}/global/features"
        token = Path(environment["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text()
        request = urllib.request.Request(
            f"{url}?featureId=multiclusteringress",
            data=json.dumps({"spec": spec}).encode(),
            headers={"Authorization": f"Bearer {token}"},
        )
        urllib.request.urlopen(request, timeout=WAIT_S).close()


def _lay_out(folder: Path) -> None:
    """Put manifests where the article's commands look for them."""
    for name in ("sleep", "helloworld"):
        (folder / SAMPLES / name).mkdir(parents=True)
        shutil.copy(REPOSITORY / f"manifests/connectivity/{name}.yaml", folder / SAMPLES / name)
    shutil.copy(REPOSITORY / "manifests/routing/helloworld-gateway.yaml", folder / SAMPLES / "helloworld")
    no_kustomization = shutil.ignore_patterns("kustomization.yaml")
    gateway = folder / "nifc-istio-ingressgateway"
    shutil.copytree(REPOSITORY / "manifests/gateway", gateway, ignore=no_kustomization)
    shutil.copytree(REPOSITORY / "manifests/multicluster", gateway / "multicluster", ignore=no_kustomization)
    script = folder / "set_sample.sh"
    script.write_text("#!/bin/bash\n" + SET_SAMPLE)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="module")
def walk(fresh_shell: Any, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder = tmp_path_factory.mktemp("article")
    _lay_out(folder)
    walk = Walk(fresh_shell, folder)
    walk.all()
    return walk


def _versions(done: Any) -> Counter[str]:
    """Count the answers; each line must be one."""
    answers = [re.fullmatch(r"Hello version: (v\d), instance: helloworld-\1-\w+-\w+", line) for line in done.lines]
    assert all(answers), done
    return Counter(answer[1] for answer in answers if answer)


def test_the_sample_is_set_with_the_lines_of_a_real_cluster(walk: Walk) -> None:
    of_each_cluster = [
        "namespace/sample created",
        'label "istio-injection" not found.',
        "namespace/sample labeled",
        "serviceaccount/sleep created",
        "service/sleep created",
        "deployment.apps/sleep created",
    ]
    of_the_versions = [
        f"{name} created" for v in (1, 2) for name in ("service/helloworld", f"deployment.apps/helloworld-v{v}")
    ]
    assert walk.shown["sample"].lines == [*of_each_cluster * 2, *of_the_versions]
    assert (walk.shown["sample"].code, walk.shown["sample"].err) == (0, "")


def test_gateways_routing_and_ingress_are_applied_as_folders(walk: Walk) -> None:
    name = "namespace/nifc-istio-gateway"
    labelled = [f"{name} created", 'label "istio-injection" not found.', f"{name} labeled"]
    assert walk.shown["namespace"].lines == labelled * 2
    kinds = {
        "horizontalpodautoscaler.autoscaling",
        "deployment.apps",
        "poddisruptionbudget.policy",
        "role.rbac.authorization.k8s.io",
        "rolebinding.rbac.authorization.k8s.io",
        "serviceaccount",
    }
    made = {f"{kind}/istio-ingressgateway created": 2 for kind in kinds}
    assert Counter(walk.shown["gateway"].lines) == made
    routed = [
        "gateway.networking.istio.io/helloworld-gateway created",
        "virtualservice.networking.istio.io/helloworld created",
    ]
    assert walk.shown["routing"].lines == routed * 2
    assert walk.shown["multicluster"].lines == [
        "backendconfig.cloud.google.com/ingress-backendconfig created",
        "multiclusteringress.networking.gke.io/istio-ingressgateway created",
        "multiclusterservice.networking.gke.io/istio-ingressgateway created",
    ]


def test_gcloud_asks_for_the_membership_by_number(walk: Walk) -> None:
    if "enable" not in walk.shown:
        pytest.skip("gcloud is not installed, or asked with another kubectl already")
    shown = walk.shown["enable"]
    assert " [1] global/nifc-anthosbm-cls\n [2] us-central1/nifc-anthosgke-cls\n [3] cancel\n" in shown.out
    assert shown.code == 0


@pytest.mark.parametrize(("loop", "count"), [("loop 1", 20), ("loop 2", 20), ("outside", 10)])
def test_pods_of_both_clouds_and_the_outside_reach_both_clouds(walk: Walk, loop: str, count: int) -> None:
    answers = _versions(walk.shown[loop])
    assert answers.total() == count
    assert set(answers) == {"v1", "v2"} or loop == "outside", "of ten, all are one cloud's now and then"


def test_the_vip_is_one_address_on_a_line_and_deployments_have_the_columns_of_kubectl(walk: Walk) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+(:\d+)?\n", walk.shown["vip"].out)
    header, *rows = [line.split() for line in walk.shown["deployments"].lines]
    assert header == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert [row[:4] for row in rows] == [["helloworld-v1", "1/1", "1", "1"], ["sleep", "1/1", "1", "1"]]
    assert all(re.fullmatch(r"\d+[sm]\w*", row[4]) for row in rows)


def test_the_other_cloud_answers_while_one_is_down(walk: Walk) -> None:
    assert walk.shown["stop"].lines == ["deployment.apps/helloworld-v1 scaled"]
    assert _versions(walk.shown["outside, without v1"]) == {"v2": 10}
    assert walk.shown["back"].lines == ["deployment.apps/helloworld-v1 scaled"]
