"""What the notebooks of stages 1 and 2 leave in a lab, made without them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from meshbook import Fleet, gkehub, probes

MANIFESTS = Path(__file__).parents[2] / "manifests"
GATEWAYS = "nifc-istio-gateway"


def set_up(kubeconfig: Path) -> str:
    """Deploy the sample and its gateways in both clusters; return the VIP at which both versions have answered."""
    with contextlib.closing(Fleet.connect(["cluster1", "cluster2"], str(kubeconfig))) as fleet:
        config = fleet["cluster2"]
        gkehub.enable_ingress("us-central1/nifc-anthosgke-cls", config)
        for namespace in ("sample", GATEWAYS):
            fleet.create_namespace(namespace, revision="asm-1175-9")
        for cluster, other in zip(fleet, ("v2", "v1"), strict=True):
            cluster.apply(MANIFESTS / "connectivity", "sample", f"version!={other}")
        fleet.apply(MANIFESTS / "gateway", GATEWAYS)
        fleet.apply(MANIFESTS / "routing", "sample")
        config.apply(MANIFESTS / "multicluster", GATEWAYS)
        for namespace in ("sample", GATEWAYS):
            fleet.wait_for_rollout(namespace, timeout_s=30)
        url, versions = "http://helloworld.sample:5000/hello", ("v1", "v2")
        probes.wait_for_versions(fleet, url, versions, namespace="sample", timeout_s=30)
        vip = gkehub.wait_for_vip(config, GATEWAYS, "istio-ingressgateway", timeout_s=30)
        probes.wait_for_first_answer(f"http://{vip}/hello", 30)
        return vip
