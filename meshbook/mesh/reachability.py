"""The way itself: from a pod of one cluster to the other's east-west gateway, and what the asking proxy knows.

Two looks, by exec. One is a curl from where no sidecar is in between (a proxy's own container): does anybody listen at
the gateway's port? The other is a few lines of Python in the prober pod, which speak TLS with the server name that a
sidecar would use: does a pod of the service show a certificate of the trusted root? ``judge`` and ``known`` decide.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshbook.analysis import parse_access_log
from meshbook.clusters import Cluster
from meshbook.errors import ClusterError
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.gateways import EAST_WEST, addresses, services
from meshbook.mesh.routing import Asked
from meshbook.mesh.snapshot import NotSeen, Snapshot
from meshbook.objects import EAST_WEST_PORT, EXEC_RIGHTS, PROXY_CONTAINER, SYSTEM_NAMESPACE, Object, is_ready, labels_of

FLAGS = {
    "DC": "the client gave up",
    "NR": "no route",
    "UC": "the other side ended the connection",
    "UF": "no connection to the other side",
    "UH": "no healthy endpoint",
    "URX": "retried as often as it may be",
    "UT": "the other side did not answer in time",
}
"""What Envoy means by the response flags that a silent direction may have."""
WAIT_S = 4.0
"""Longest wait for a connection, and for its handshake; two clouds and a VPN take well under one second."""
_EXEC_S = 15.0
_NOBODY = "meshbook.invalid"
"""A server name that no gateway passes on: it ends such a connection itself, and so shows that it lives."""
_OPEN = (0, 35, 52, 56, 60)
"""curl's exit codes after a connection stood: what comes then says nothing, since nobody has this name."""
_WORDS = {6: "name not resolved", 7: "refused", 28: "time-out"}
_HANDSHAKE = """
import socket, ssl, sys
host, port, name, wait, pem = sys.argv[1:]
try:
    link = socket.create_connection((host, int(port)), float(wait))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.load_verify_locations(cadata=pem)
    tls.set_alpn_protocols(["istio"])
    tls.wrap_socket(link, server_hostname=name)
    print("trusted")
except ssl.SSLCertVerificationError as error:
    print("untrusted", error.verify_message)
except socket.timeout:
    print("time-out")
except (ConnectionError, ssl.SSLEOFError) as error:
    print("reset", error)
except OSError as error:
    print("failed", error)
"""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """What came of a look from a pod at an address. Empty words: not looked at."""

    address: str
    knock: str = ""
    """``open``, ``silent`` (connected, then nothing), ``time-out``, ``refused``, ``name not resolved``."""
    by: str = ""
    """The pod that knocked."""
    tls: str = ""
    """``trusted``, ``untrusted …``, ``reset …``, ``time-out``, ``failed …``."""
    need: str = ""
    """What would be needed to knock."""


def reach(cluster: Cluster, source: Snapshot, destination: Snapshot, asked: Asked | None, root: str = "") -> Reached:
    """Look from pods of ``source`` at the gateway of ``destination``; NotSeen where it has no address.

    With ``asked`` and the ``root`` certificate (PEM) a handshake with the service is tried, too.
    """
    given = [address for service in services(destination) for address in addresses(service)]
    if not given:
        raise NotSeen(f"an address of {destination.cluster}'s east-west gateway")
    found = _knocked(cluster, source, given[0], asked)
    worth = asked and root and found[0] in ("", "open")
    tls = _shaken(cluster, source, given[0], asked, root) if asked and worth else ""
    return Reached(address=given[0], knock=found[0], by=found[1], need=found[2], tls=tls)


def _knocked(cluster: Cluster, source: Snapshot, address: str, asked: Asked | None) -> tuple[str, str, str]:
    """Return what a curl from a proxy's container met, the pod, and what would be needed where none could be run."""
    pods = source.list("Pod", asked.client_namespace) if asked else []
    pods = [pod for pod in pods if asked and asked.client_labels.items() <= labels_of(pod).items()]
    pods += source.list("Pod", SYSTEM_NAMESPACE, labels=EAST_WEST)
    need = f"a ready proxy in {source.cluster} to ask from ({EXEC_RIGHTS})"
    limits = ["--connect-timeout", f"{WAIT_S:g}", "--max-time", f"{WAIT_S + 2:g}", "--noproxy", "*"]
    to = ["--connect-to", f"::{address}:{EAST_WEST_PORT}", f"https://{_NOBODY}/"]
    for pod in filter(is_ready, pods):
        name, home = pod["metadata"]["name"], pod["metadata"]["namespace"]
        argv = ["curl", "-q", "-ks", "-o", "/dev/null", "-w", "%{errormsg}", *limits, *to]
        try:
            done = cluster.exec(name, argv, namespace=home, container=PROXY_CONTAINER, timeout_s=_EXEC_S)
        except ClusterError as error:
            need = f"{EXEC_RIGHTS} in {home}" if error.code == 403 else f"curl in {name} ({error.message})"
            continue
        if done.exit_code == 28 and "SSL" in done.stdout:
            return "silent", name, ""
        if word := "open" if done.exit_code in _OPEN else _WORDS.get(done.exit_code, ""):
            return word, name, ""
        need = f"curl in {name} (it ended with exit code {done.exit_code})"
    return "", "", need


def _shaken(cluster: Cluster, source: Snapshot, address: str, asked: Asked, root: str) -> str:
    server_name = f"outbound_.{asked.port}_._.{asked.host}"
    for pod in filter(is_ready, source.list("Pod", asked.client_namespace, labels="app=prober")):
        name = pod["metadata"]["name"]
        container = next(one["name"] for one in pod["spec"]["containers"] if one["name"] != PROXY_CONTAINER)
        argv = ["python3", "-I", "-S", "-c", _HANDSHAKE, address, str(EAST_WEST_PORT), server_name, f"{WAIT_S:g}", root]
        try:
            done = cluster.exec(name, argv, namespace=asked.client_namespace, container=container, timeout_s=_EXEC_S)
        except ClusterError:
            continue
        if done.exit_code == 0:
            return done.stdout.strip()
    return ""


def judge(look: Look, reached: Reached) -> Iterator[Finding]:
    """Say what a look at the gateway means."""
    source, destination = look.direction.source, look.direction.destination
    where = f"{destination}'s east-west gateway, {reached.address}:{EAST_WEST_PORT}"
    said, word = f"from pod {reached.by or 'prober'} of {source} at {where}", reached.knock
    service = f"kubectl --context {destination} -n {SYSTEM_NAMESPACE} describe service -l {EAST_WEST}"
    kubectl = f"kubectl --context {destination} -n {SYSTEM_NAMESPACE}"
    if not word and reached.tls != "trusted" and not reached.tls.startswith("untrusted"):
        yield look.not_looked_at(reached.need)  # a sidecar in between takes every connection, and may cut it itself
    elif word == "time-out":
        seen = f"No connection within {WAIT_S:g} s {said}: packets vanish on the way (link, route or firewall)."
        yield look.cause(seen, f"open TCP {EAST_WEST_PORT} from {source}'s nodes to {reached.address}")
    elif word == "refused":
        yield look.cause(f"Refused {said}: nobody listens there.", f"{kubectl} get gateways,pods -o wide")
    elif word == "name not resolved":
        yield look.cause(f"The name is not resolved {said}.", service)
    elif word == "silent":
        seen = f"A connection stands, but nothing comes over it within {WAIT_S:g} s {said}: the gateway hangs."
        yield look.cause(seen, f"{kubectl} rollout restart deployment -l {EAST_WEST}")
    elif reached.tls.startswith("untrusted"):
        why = reached.tls.partition(" ")[2]
        seen = f"A pod of {destination} shows a certificate that {source}'s root does not vouch for ({why}), {said}."
        yield look.cause(seen, "make both meshes' cacerts from one root, then restart istiod and every proxy")
    elif reached.tls == "time-out":
        seen = f"The gateway lives, but no TLS handshake with the service ends within {WAIT_S:g} s {said}."
        yield look.cause(seen, f"kubectl --context {destination} get pods -A -o wide")
    elif reached.tls.startswith("reset"):
        seen = (
            f"TLS for this service is cut {said}: the gateway knows no pod with a sidecar for it, or {source}'s"
            " sidecars allow registered hosts only."
        )
        yield look.cause(seen, f"{kubectl} rollout restart deployment -l {EAST_WEST}")
    else:
        more = ", and the service shows a certificate of the trusted root" if reached.tls == "trusted" else ""
        yield look.fine(f"Open {said}{more}.")


# ---- what the asking proxy knows, and says


def proxy_clusters(cluster: Cluster, source: Snapshot, asked: Asked) -> list[Object]:
    """Return what Envoy's ``/clusters`` says in a client's sidecar; NotSeen where it cannot be asked."""
    pods = [pod for pod in source.list("Pod", asked.client_namespace) if is_ready(pod)]
    mine = [pod for pod in pods if asked.client_labels.items() <= labels_of(pod).items()]
    need = f"a ready client with a sidecar ({source.cluster})"
    for pod in mine:
        name, home = pod["metadata"]["name"], pod["metadata"]["namespace"]
        argv = ["pilot-agent", "request", "GET", "clusters?format=json"]
        try:
            done = cluster.exec(name, argv, namespace=home, container=PROXY_CONTAINER, timeout_s=_EXEC_S)
            found: list[Object] = json.loads(done.stdout)["cluster_statuses"]
        except ClusterError as error:
            need = f"{EXEC_RIGHTS} in {home}" if error.code == 403 else f"pilot-agent in {name}'s sidecar"
        except (ValueError, LookupError):
            need = f"pilot-agent in {name}'s sidecar"
        else:
            return found
    raise NotSeen(need)


def known(look: Look, statuses: Sequence[Object], asked: Asked, destination: Snapshot) -> Iterator[Finding]:
    """Say whether a proxy of the source knows the destination's gateway as an endpoint of the service."""
    source, host = look.direction.source, asked.host
    mend = f"kubectl --context {source} -n {SYSTEM_NAMESPACE} rollout restart deployment -l app=istiod"
    of_service = [one for one in statuses if str(one.get("name", "")).startswith(f"outbound|{asked.port}|")]
    of_service = [one for one in of_service if str(one["name"]).endswith(f"|{host}")]
    if not of_service:
        yield look.cause(f"{source}'s proxies know no service {host} at port {asked.port}.", mend)
        return
    there = [(*_socket(one), one) for status in of_service for one in status.get("host_statuses") or []]
    given = [address for service in services(destination) for address in addresses(service)]
    far = [(address, one) for address, port, one in there if port == EAST_WEST_PORT]
    ours = [one for address, one in far if address in given or not _is_number(given)]
    others = sorted({address for address, _ in far} - set(given))
    if not ours:
        stale = f", only {', '.join(others)}" if others else ""
        what = f"{destination.cluster}'s east-west gateway as an endpoint of {host}"
        seen = f"{source}'s proxies do not know {what}{stale}."
        yield look.cause(seen, mend)
    elif all((one.get("health_status") or {}).get("failed_outlier_check") for one in ours):
        seen = f"{source}'s proxies have thrown {destination.cluster}'s gateway out for its errors (outlier detection)."
        yield look.cause(seen, "mend what failed there; it is taken back by itself")
    else:
        yield look.fine(f"{source}'s proxies know {destination.cluster}'s gateway as an endpoint of {host}.")


def response_flags(look: Look, cluster: Cluster, source: Snapshot, asked: Asked, since: datetime) -> Iterator[Finding]:
    """Say which of Envoy's response flags the clients' sidecars have logged for the service ``since`` then."""
    pods = [pod for pod in source.list("Pod", asked.client_namespace) if is_ready(pod)]
    names = [pod["metadata"]["name"] for pod in pods if asked.client_labels.items() <= labels_of(pod).items()]
    logs = [cluster.logs(name, asked.client_namespace, container=PROXY_CONTAINER, since=since) for name in names]
    rows = [row for text in logs for line in text.splitlines() if (row := parse_access_log(line))]
    ours = [row for row in rows if row["hop"] == "outbound" and row["service"] == asked.host]
    if not ours:
        raise NotSeen(f"access logs of this service in {source.cluster}'s sidecars (meshConfig.accessLogFile)")
    counts = Counter(f"{row['code'] or 'no answer'} {row['flags']}" for row in ours if row["flags"])
    words = {flag: FLAGS[flag] for text in counts for flag in text.split(" ")[-1].split(",") if flag in FLAGS}
    if counts:
        meant = "; ".join(f"{flag}: {word}" for flag, word in words.items())
        told = ", ".join(f"{count} × {text}" for text, count in counts.most_common(5))
        yield look.noted(f"Of {len(ours)} requests {source.cluster}'s sidecars logged {told} ({meant}).")
    else:
        yield look.fine(f"{source.cluster}'s sidecars logged {len(ours)} requests, none with a response flag.")


def _socket(host: Object) -> tuple[str, int]:
    given: dict[str, Any] = (host.get("address") or {}).get("socket_address") or {}
    return str(given.get("address", "")), int(given.get("port_value", 0))


def _is_number(given: Sequence[str]) -> bool:
    """Tell whether the addresses are such as a proxy shows: a host name is resolved before."""
    return all(not address.strip("0123456789.:abcdefABCDEF") for address in given)
