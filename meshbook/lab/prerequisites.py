"""What parts 1 to 3 of the article leave behind, as objects: data only, nothing is sent from here.

Each cluster has ``istio-system`` with its network label, the revision's injection webhook, an east-west gateway behind
a load balancer address with the Gateway that passes mesh traffic through (all in ``prerequisites.yaml``), and a remote
secret for every other cluster.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

import yaml

from meshbook.lab import pki
from meshbook.lab.topology import EAST_WEST_PORT, REVISION, WEBHOOK_PORT, ClusterTopology, LabTopology
from meshbook.objects import SYSTEM_NAMESPACE, Object

TEMPLATE = Path(__file__).with_suffix(".yaml")
VIEWERS = "meshbook:viewers"
"""Group of users who may look and change nothing."""
READER = "istio-reader-service-account"
"""Service account as which the istiods of other clusters read this one."""
GATEWAY_NAME = "istio-eastwestgateway"


def of_cluster(
    topology: LabTopology, cluster: ClusterTopology, root_pem: str, tokens: Mapping[str, str]
) -> Iterator[Object]:
    """Yield the objects of one cluster in the order in which they must be applied."""
    text = Template(TEMPLATE.read_text()).substitute(
        network=cluster.network,
        viewers=VIEWERS,
        reader=READER,
        revision=REVISION,
        webhook=f"https://{cluster.istiod_address}:{WEBHOOK_PORT}/inject",
        authority=_encoded(root_pem),
        east_west_port=EAST_WEST_PORT,
    )
    yield from yaml.safe_load_all(text)
    for other in topology.clusters:
        if other.name != cluster.name:
            yield _remote_secret(other, pki.cluster_kubeconfig(other, root_pem, tokens[other.reader]))


def _remote_secret(other: ClusterTopology, kubeconfig: str) -> Object:
    metadata = {
        "name": f"istio-remote-secret-{other.name}",
        "namespace": SYSTEM_NAMESPACE,
        "labels": {"istio/multiCluster": "true"},
        "annotations": {"networking.istio.io/cluster": other.name},
    }
    data = {other.name: _encoded(kubeconfig)}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
