"""How the programs of a real control plane are started: command lines from a topology. Pure.

Everything listens on the cluster's own loopback addresses. Files of the authority hold a certificate and its key, so
one path serves for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from meshbook.lab.apiserver import User
from meshbook.lab.realapiserver.binaries import Programs
from meshbook.lab.topology import API_PORT, ETCD_PEER_PORT, ETCD_PORT, ClusterTopology

ADMISSION_LEFT_OUT = ("TaintNodesByCondition",)
"""The lab's only node is ready as soon as it is there."""

LEFT_TO_MANAGER = (
    "deployment",
    "replicaset",
    "endpoint",
    "endpointslice",
    "garbagecollector",
    "namespace",
    "serviceaccount",
    "root-ca-cert-publisher",
    "horizontalpodautoscaling",
    "disruption",
    "job",
    "ttl-after-finished",
    "clusterrole-aggregation",
)
"""Controllers of kube-controller-manager that stand in for the lab's, by the names that all versions know."""

STREAMS_TRANSLATED = "TranslateStreamCloseWebsocketRequests"
FIRST_MINOR = 29
FIRST_MINOR_PASSING_STREAMS = 36
"""From 1.36 on the API server passes v5 streams to a Node that declares that it takes them."""


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where one control plane keeps its things."""

    folder: Path
    root: Path
    """Certificate of the lab's authority."""
    etcd: Path
    server: Path
    kubelet_client: Path
    service_account: Path

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def data(self) -> Path:
        return self.folder / "etcd"


def etcd(programs: Programs, cluster: ClusterTopology, files: Files) -> list[str]:
    """Return how etcd is started: mutual TLS, and no fsync, since the data goes with the lab."""
    client, peer = (f"https://{cluster.etcd_address}:{port}" for port in (ETCD_PORT, ETCD_PEER_PORT))
    flags: dict[str, object] = {
        "name": cluster.name,
        "data-dir": files.data,
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{cluster.name}={peer}",
        "unsafe-no-fsync": "true",
    }
    for prefix in ("", "peer-"):
        flags |= {f"{prefix}cert-file": files.etcd, f"{prefix}key-file": files.etcd}
        flags |= {f"{prefix}trusted-ca-file": files.root, f"{prefix}client-cert-auth": "true"}
    return _argv(programs.etcd, flags)


def apiserver(programs: Programs, cluster: ClusterTopology, files: Files, minor: int) -> list[str]:
    """Return how kube-apiserver 1.``minor`` is started."""
    flags: dict[str, object] = {
        "etcd-servers": f"https://{cluster.etcd_address}:{ETCD_PORT}",
        "etcd-cafile": files.root,
        "etcd-certfile": files.etcd,
        "etcd-keyfile": files.etcd,
        "bind-address": cluster.api_address,
        "secure-port": API_PORT,
        "advertise-address": cluster.shown(cluster.api_address),
        "endpoint-reconciler-type": "none",
        "tls-cert-file": files.server,
        "tls-private-key-file": files.server,
        "anonymous-auth": "false",
        "token-auth-file": files.tokens,
        "authorization-mode": "RBAC",
        "service-account-issuer": cluster.api_url,
        "service-account-key-file": files.service_account,
        "service-account-signing-key-file": files.service_account,
        "service-cluster-ip-range": cluster.service_range,
        "kubelet-certificate-authority": files.root,
        "kubelet-client-certificate": files.kubelet_client,
        "kubelet-client-key": files.kubelet_client,
        "kubelet-preferred-address-types": "InternalIP",
        "disable-admission-plugins": ",".join(ADMISSION_LEFT_OUT),
    }
    if minor < FIRST_MINOR_PASSING_STREAMS:
        flags["feature-gates"] = f"{STREAMS_TRANSLATED}=false"
    return _argv(programs.apiserver, flags)


def controller_manager(programs: Programs, cluster: ClusterTopology, files: Files) -> list[str]:
    """Return how kube-controller-manager is started, with just the controllers that the lab has too."""
    flags = {
        **_client_flags(cluster, files),
        "controllers": ",".join(LEFT_TO_MANAGER),
        "root-ca-file": files.root,
        "use-service-account-credentials": "false",
    }
    return _argv(programs.controller_manager, flags)


def scheduler(programs: Programs, cluster: ClusterTopology, files: Files) -> list[str]:
    """Return how kube-scheduler is started."""
    return _argv(programs.scheduler, _client_flags(cluster, files))


def _client_flags(cluster: ClusterTopology, files: Files) -> dict[str, object]:
    return {"kubeconfig": files.kubeconfig, "leader-elect": "false", "bind-address": cluster.api_address}


def _argv(program: str, flags: Mapping[str, object]) -> list[str]:
    return [program, *(f"--{name}={value}" for name, value in flags.items())]


def token_lines(tokens: Mapping[str, User]) -> str:
    """Return the file of static tokens: token, user, uid, groups."""
    return "".join(f'{token},{user.name},{user.name},"{",".join(user.groups)}"\n' for token, user in tokens.items())
