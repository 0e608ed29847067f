"""Ingress gateways, by which requests from outside come in: are any there, and does each of them answer.

A pod whose proxy hangs may count as ready for a minute, and a load balancer goes on sending to it. Each is asked for
its own health by exec, and only where requests from outside went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshbook.clusters import Cluster
from meshbook.errors import ClusterError
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.snapshot import Snapshot
from meshbook.objects import PROXY_CONTAINER, Object, describe_pod, is_deleting, is_ready

_HEALTH_PORT = 15021
_WAIT_S = 4
_EXEC_S = 10.0
_TIMED_OUT = 28
"""curl's exit code for an answer that did not come in time."""


def ingress(look: Look, view: Snapshot, namespace: str, cluster: Cluster, *, failed: bool) -> Iterator[Finding]:
    """Look at the ingress gateways of one cluster; ``failed``: some requests from outside got no good answer."""
    pods = [pod for pod in view.list("Pod", namespace) if _is_gateway(pod)]
    ready = [pod for pod in pods if is_ready(pod)]
    kubectl = f"kubectl --context {view.cluster} -n {namespace}"
    if not ready:
        owners = [one for one in view.list("Deployment", namespace) if not one["spec"].get("replicas", 1)]
        why = f": Deployment {owners[0]['metadata']['name']} has 0 replicas" if owners else ""
        yield look.cause(f"{view.cluster} has no ready ingress gateway{why}.", f"{kubectl} get deployments,pods")
        return
    silent = [pod for pod in ready if failed and _hangs(pod, namespace, cluster)]
    unready = [pod for pod in pods if pod not in ready] if failed else []
    for pod, how in [*((one, "its proxy hangs") for one in silent), *((one, describe_pod(one)) for one in unready)]:
        name = pod["metadata"]["name"]
        seen = f"{view.cluster}'s ingress gateway pod {name}, one of {len(pods)}, does not answer: {how}."
        yield look.cause(seen, f"{kubectl} delete pod {name}")
    if not silent and not unready:
        yield look.fine(f"{len(ready)} ready ingress gateway pods in {view.cluster}.")


def _is_gateway(pod: Object) -> bool:
    return not is_deleting(pod) and any(one["name"] == PROXY_CONTAINER for one in pod["spec"].get("containers", []))


def _hangs(pod: Object, namespace: str, cluster: Cluster) -> bool:
    """Tell whether a proxy takes a connection and says nothing; False where it cannot be asked."""
    address = (pod.get("status") or {}).get("podIP", "")
    argv = ["curl", "-q", "-s", "-m", str(_WAIT_S), "--noproxy", "*"]
    argv += ["-o", "/dev/null", f"http://{address}:{_HEALTH_PORT}/healthz/ready"]
    try:
        done = cluster.exec(
            pod["metadata"]["name"], argv, namespace=namespace, container=PROXY_CONTAINER, timeout_s=_EXEC_S
        )
    except ClusterError:
        return False
    return done.exit_code == _TIMED_OUT
