"""What a lab consists of: clusters, addresses, ports, folders. Frozen data; binds and writes nothing.

Every other package asks here for an address, a port or a path, so that no two can disagree. One lab owns one
/16 of the loopback network, ``127.<block>.0.0/16``; labs with different blocks run side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

API_PORT = 6443
KUBELET_PORT = 10250
FLEET_PORT = 8443
CONTROL_PORT = 8445
WEBHOOK_PORT, XDS_PORT = 15017, 15012
ETCD_PORT, ETCD_PEER_PORT = 2379, 2380

PROXY_OUTBOUND_PORT = 15001
PROXY_INBOUND_PORT = 15006
PROXY_ADMIN_PORT = 15000
PROXY_HEALTH_PORT = 15021
PROXY_METRICS_PORT = 15090
EAST_WEST_PORT = 15443
PORTS = (
    *(API_PORT, KUBELET_PORT, FLEET_PORT, CONTROL_PORT, WEBHOOK_PORT, XDS_PORT, EAST_WEST_PORT),
    *(PROXY_OUTBOUND_PORT, PROXY_INBOUND_PORT, PROXY_ADMIN_PORT, PROXY_HEALTH_PORT, PROXY_METRICS_PORT),
)
"""All at which something listens in every lab, each on addresses of its own."""

FIRST_BLOCK, LAST_BLOCK = 64, 250
TRUST_DOMAIN = "lab.meshbook.internal"
REVISION = "asm-1175-9"
PROJECT = "meshbook-lab"
FLEET_EXTENSION, LAB_EXTENSION = "gkehub.googleapis.com", "meshbook.io/lab"
"""Extensions of a kubeconfig's clusters: where the fleet API is, and where the lab is asked for faults."""

LOOPBACK_NET, SHOWN_NET = "127.", "240."
"""A real API server refuses endpoints on loopback: its objects show 240.a.b.c, reserved and routed by nobody."""


def reachable(address: str) -> str:
    """Return where an address that an API object shows is reached: 240.a.b.c at 127.a.b.c, others as they stand."""
    return LOOPBACK_NET + address.removeprefix(SHOWN_NET) if address.startswith(SHOWN_NET) else address


@dataclass(frozen=True, kw_only=True)
class ClusterTopology:
    """One cluster of the lab.

    ``index`` counts from 1 and fixes the addresses: cluster k owns ``127.<block>.<10k>.0`` (its machines) and
    ``127.<block>.<10k+1>.0`` (its pods).
    """

    name: str
    index: int
    block: int
    network: str
    region: str
    zone: str
    membership: str
    """Resource name in the fleet, ``projects/P/locations/L/memberships/M``."""
    is_gke: bool
    """Only GKE clusters can be backends of a MultiClusterIngress."""
    real_api: bool = False
    """Whether a real API server runs, which takes no endpoints on loopback."""

    @property
    def viewer(self) -> str:
        """The user who may look and change nothing, which is the name of a context too."""
        return f"{self.name}-viewer"

    @property
    def reader(self) -> str:
        """The user as whom the other clusters' istiods read this one."""
        return f"{self.name}-istio-reader"

    def _machine(self, host: int) -> str:
        return f"127.{self.block}.{10 * self.index}.{host}"

    @property
    def api_address(self) -> str:
        return self._machine(1)

    @property
    def api_url(self) -> str:
        return f"https://{self.api_address}:{API_PORT}"

    @property
    def node_name(self) -> str:
        return f"{self.name}-node-1"

    @property
    def node_address(self) -> str:
        """Address of the only node: its kubelet listens here, on ``KUBELET_PORT``."""
        return self._machine(2)

    @property
    def istiod_address(self) -> str:
        """Address of the injection webhook, on ``WEBHOOK_PORT``, and of discovery, on ``XDS_PORT``."""
        return self._machine(3)

    @property
    def etcd_address(self) -> str:
        """Address of a real API server's etcd, on ``ETCD_PORT`` and ``ETCD_PEER_PORT``."""
        return self._machine(4)

    def owns(self, address: str) -> bool:
        """Tell whether an address is one of this cluster's machines, load balancers or pods."""
        return address.startswith((f"127.{self.block}.{10 * self.index}.", f"127.{self.block}.{10 * self.index + 1}."))

    def shown(self, address: str) -> str:
        """Return how API objects show ``address``; ``reachable`` is the way back."""
        return SHOWN_NET + address.removeprefix(LOOPBACK_NET) if self.real_api else address

    @property
    def service_range(self) -> str:
        """Range from which a real API server takes Service addresses; answered by nobody."""
        return f"{SHOWN_NET}{self.block}.{10 * self.index + 2}.0/24"

    def load_balancer_address(self, number: int) -> str:
        """Return the ``number``-th (from 0) of 100 addresses for Services of type LoadBalancer."""
        return self._machine(_nth(number, 100, first=100))

    def pod_address(self, number: int) -> str:
        """Return the ``number``-th (from 0) of 250 pod addresses."""
        return f"127.{self.block}.{10 * self.index + 1}.{_nth(number, 250, first=1)}"

    def cluster_ip(self, number: int) -> str:
        """Return the ``number``-th (from 0) of 250 Service addresses; allocated, answered by nobody."""
        return f"127.{self.block}.{10 * self.index + 2}.{_nth(number, 250, first=1)}"


def _nth(number: int, count: int, *, first: int) -> int:
    if not 0 <= number < count:
        raise ValueError(f"there are {count} addresses of this kind, not number {number}")
    return first + number


@dataclass(frozen=True, kw_only=True)
class LabFolder:
    """Where a lab keeps its files."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def state_file(self) -> Path:
        """Written when the lab is ready; its presence is the sign of that."""
        return self.root / "lab.json"

    @property
    def log(self) -> Path:
        return self.root / "lab.log"

    @property
    def lock(self) -> Path:
        """Held by the lab that runs in this folder."""
        return self.root / "lock"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def root_certificate(self) -> Path:
        """Of the lab's one authority, which all servers are known by."""
        return self.pki / "root.pem"

    @property
    def fleet_token_file(self) -> Path:
        return self.root / "fleet-token"

    @property
    def control_token_file(self) -> Path:
        return self.root / "control-token"

    @property
    def fault_log(self) -> Path:
        """Every fault with its true start and end, as JSON lines."""
        return self.root / "faults.jsonl"

    @property
    def edge(self) -> Path:
        """Folder of the global load balancer's Envoy."""
        return self.root / "edge"

    def control_plane_folder(self, cluster: str) -> Path:
        """Folder of one cluster's real control plane: data, tokens and logs."""
        return self.root / "control-planes" / cluster

    def proxy_folder(self, cluster: str, namespace: str, pod: str) -> Path:
        """Folder of one pod's Envoy: its bootstrap."""
        return self.root / "proxies" / cluster / namespace / pod

    def pod_folder(self, cluster: str, namespace: str, pod: str) -> Path:
        """Folder of one pod: container logs."""
        return self.root / "pods" / cluster / namespace / pod

    @property
    def everything(self) -> list[Path]:
        """All that a lab makes in its folder, and so all that is ever removed from it."""
        files = [self.kubeconfig, self.state_file, self.log, self.lock, self.fleet_token_file, self.control_token_file]
        folders = [self.root / name for name in ("control-planes", "proxies", "pods")]
        return [*files, self.fault_log, self.pki, self.edge, *folders]


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long things take: as in a real mesh, unless a lab is to be fast."""

    pod_start_s: float = 3.0
    """Before the first container of a pod starts; there, its network, its volumes and its images are got ready."""
    drain_s: int = 45
    """Istio's ``drainDuration``: how long the connections of a listener that is gone live on."""
    termination_drain_s: float = 5.0
    """Istio's ``terminationDrainDuration``: how long a gateway answers after its pod was told to end."""
    burns: bool = True
    """Whether the sample application costs CPU for each call, as the real one does."""


FAST = Pace(pod_start_s=0.0, drain_s=1, termination_drain_s=0.5, burns=False)


@dataclass(frozen=True, kw_only=True)
class LabTopology(LabFolder):
    """A whole lab: its folder, its block of addresses and its clusters."""

    block: int
    lowest_port: int = 1024
    """Lowest port that this user may bind (``net.ipv4.ip_unprivileged_port_start``; 0 for root)."""
    clusters: tuple[ClusterTopology, ...] = ()
    pace: Pace = Pace()
    native_sidecars: bool = True
    """Whether injected proxies are init containers that go on running, as Istio has it where Kubernetes can."""

    @property
    def container_environment(self) -> dict[str, str]:
        """What every container of the lab finds in its environment, unless its own ``env`` says otherwise."""
        return {} if self.pace.burns else {"BURN_MS": "0"}

    @property
    def fleet_address(self) -> str:
        return f"127.{self.block}.0.1"

    @property
    def fleet_url(self) -> str:
        return f"http://{self.fleet_address}:{FLEET_PORT}"

    @property
    def edge_address(self) -> str:
        """Address of the global load balancer's Envoy and of its discovery server (its VIPs are ``vip``)."""
        return f"127.{self.block}.0.2"

    @property
    def control_address(self) -> str:
        """Address where faults are asked for, on ``CONTROL_PORT``; part of no cluster."""
        return f"127.{self.block}.0.4"

    @property
    def control_url(self) -> str:
        return f"http://{self.control_address}:{CONTROL_PORT}"

    def vip(self, number: int) -> str:
        """Return the ``number``-th (from 0) of 100 addresses of the global load balancer."""
        return f"127.{self.block}.0.{_nth(number, 100, first=100)}"

    def bindable(self, port: int) -> int:
        """Return ``port``, or ``port + 8000`` where this user may not bind ``port`` (80 → 8080, 443 → 8443)."""
        return port if port >= self.lowest_port else port + 8000

    def cluster(self, name: str) -> ClusterTopology:
        for cluster in self.clusters:
            if cluster.name == name:
                return cluster
        raise KeyError(f"no cluster {name!r} in this lab; it has {', '.join(c.name for c in self.clusters)}")


def two_clouds(
    root: Path,
    block: int,
    lowest_port: int = 1024,
    *,
    real_api: bool = False,
    pace: Pace = FAST,
    native_sidecars: bool = True,
) -> LabTopology:
    """Return the article's environment: ``cluster1`` (Anthos on bare metal) and ``cluster2`` (GKE)."""
    cluster1 = ClusterTopology(
        name="cluster1",
        index=1,
        block=block,
        network="network1",
        region="jp-east-1",
        zone="east-14",
        membership=f"projects/{PROJECT}/locations/global/memberships/nifc-anthosbm-cls",
        is_gke=False,
        real_api=real_api,
    )
    cluster2 = ClusterTopology(
        name="cluster2",
        index=2,
        block=block,
        network="network2",
        region="us-central1",
        zone="us-central1-a",
        membership=f"projects/{PROJECT}/locations/us-central1/memberships/nifc-anthosgke-cls",
        is_gke=True,
        real_api=real_api,
    )
    return LabTopology(
        root=root,
        block=block,
        lowest_port=lowest_port,
        clusters=(cluster1, cluster2),
        pace=pace,
        native_sidecars=native_sidecars,
    )
