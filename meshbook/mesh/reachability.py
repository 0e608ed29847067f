"""The way itself: from a pod of one cluster to the other's east-west gateway, and what the asking proxy knows.

By exec. A curl from where no sidecar is in between (a proxy's own container): does anybody listen at the gateway's
port, and how long does a pod take that is asked from within itself? A few lines of Python in the prober pod speak TLS
with the server name that a sidecar would use: does a pod of the service show a certificate of the trusted root?
``known`` looks into a proxy.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import pandas as pd

from meshbook.analysis import flags_in_words, parse_access_log
from meshbook.clusters import ExecResult
from meshbook.errors import ClusterError
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.gateways import services
from meshbook.mesh.routing import Asked
from meshbook.mesh.snapshot import NotSeen, Snapshot
from meshbook.mesh.workloads import root_certificate, url_at
from meshbook.objects import (
    EAST_WEST,
    EAST_WEST_PORT,
    EXEC_RIGHTS,
    PROXY_CONTAINER,
    SYSTEM_NAMESPACE,
    Object,
    addresses_of,
    is_ready,
)

T = TypeVar("T")

WAIT_S = 4.0
"""Longest wait for a connection, and for its handshake; two clouds and a VPN take well under one second."""
LATE_S = 1.0
"""An answer that takes longer is late."""
_OWN_S = 10.0
"""Longest wait for a pod that is asked from within itself."""
_EXEC_S = 15.0
_NOBODY = "meshbook.invalid"
"""A server name that no gateway passes on: it ends such a connection itself, and so shows that it lives."""
TIMED_OUT = 28
"""curl's exit code for what did not come in time."""
_OPEN = (0, 35, 52, 56, 60)
"""curl's exit codes after a connection stood: what comes then says nothing, since nobody has this name."""
_WORDS = {6: "name not resolved", 7: "refused", TIMED_OUT: "time-out"}
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
    print("untrusted:", error.verify_message)
except socket.timeout:
    print("no handshake")
except (ConnectionError, ssl.SSLEOFError) as error:
    print("reset:", error)
except OSError as error:
    print("failed:", error)
"""
_MET = {
    "time-out": (
        f"No connection within {WAIT_S:g} s {{at}}: packets vanish on the way (link, route or firewall).",
        f"open TCP {EAST_WEST_PORT} from {{source}}'s nodes to {{address}}",
    ),
    "refused": ("Refused {at}: nobody listens there.", "kubectl get gateways,pods -o wide"),
    "name not resolved": ("The name is not resolved {at}.", f"kubectl describe service -l {EAST_WEST}"),
    "silent": (
        f"A connection stands, but nothing comes over it within {WAIT_S:g} s {{at}}: the gateway hangs.",
        f"kubectl rollout restart deployment -l {EAST_WEST}",
    ),
    "untrusted": (
        "The service shows a certificate that {source}'s root does not vouch for ({why}), {at}.",
        "make both meshes' cacerts from one root, then restart istiod and every proxy",
    ),
    "no handshake": (
        f"The gateway lives, but no TLS handshake with the service ends within {WAIT_S:g} s {{at}}.",
        "kubectl get pods -A -o wide",
    ),
    "reset": (
        "TLS for this service is cut {at}: the gateway knows no pod with a sidecar for it, or {source}'s sidecars allow"
        " registered hosts only.",
        f"kubectl rollout restart deployment -l {EAST_WEST}",
    ),
}
"""What the words of a look at a gateway mean, and what mends it."""


def run_in(
    view: Snapshot,
    pods: Iterable[Object],
    argv: Sequence[str],
    read: Callable[[ExecResult], T],
    *,
    container: str = PROXY_CONTAINER,
) -> tuple[str, T]:
    """Run a command in the first of ``pods`` where it can be; return that pod's name and what ``read`` makes of it.

    A ValueError or LookupError of ``read`` goes on to the next pod; NotSeen tells what would be needed.
    """
    need = f"a ready pod in {view.cluster} to run {argv[0]} in ({EXEC_RIGHTS})"
    for pod in filter(is_ready, pods):
        name, home = str(pod["metadata"]["name"]), str(pod["metadata"]["namespace"])
        try:
            done = view.api.exec(name, argv, namespace=home, container=container, timeout_s=_EXEC_S)
            return name, read(done)
        except ClusterError as error:
            need = f"{EXEC_RIGHTS} in {home}" if error.code == 403 else f"{argv[0]} in {name} ({error.message})"
        except (ValueError, LookupError, TypeError):
            need = f"{argv[0]} in {name}"
    raise NotSeen(need)


def curl(*argv: str, wait_s: float) -> list[str]:
    """Return the argv of a curl that tells nothing of what it gets, and waits no longer."""
    limits = ["--connect-timeout", f"{WAIT_S:g}", "--max-time", f"{wait_s:g}", "--noproxy", "*"]
    return ["curl", "-q", "-ks", "-o", "/dev/null", *limits, *argv]


def way(look: Look, source: Snapshot, destination: Snapshot, asked: Asked | None = None) -> Iterator[Finding]:
    """Look from pods of ``source`` at the gateway of ``destination``; with ``asked`` at the service behind it, too."""
    if not (given := addresses_of(*services(destination))):
        raise NotSeen(f"an address of {destination.cluster}'s east-west gateway")
    pods = [*(asked.clients(source) if asked else []), *source.list("Pod", SYSTEM_NAMESPACE, labels=EAST_WEST)]
    to = ["--connect-to", f"::{given[0]}:{EAST_WEST_PORT}", "-w", "%{errormsg}", f"https://{_NOBODY}/"]
    by, met, need = "prober", "", ""
    try:
        by, met = run_in(source, pods, curl(*to, wait_s=WAIT_S + 2), _knock)
    except NotSeen as error:
        need = error.need
    if asked and met in ("", "open") and (root := root_certificate(source, asked.client_namespace)):
        with contextlib.suppress(NotSeen):
            shown = _shaken(source, given[0], asked, root)
            # without a knock a sidecar may be in between, which takes every connection, and may cut it itself
            met = shown if met or shown.startswith(("trusted", "untrusted")) else ""
    if not met:
        raise NotSeen(need)
    at = f"from pod {by} of {source.cluster} at {destination.cluster}'s east-west gateway, {given[0]}:{EAST_WEST_PORT}"
    word, _, why = met.partition(": ")
    if word in _MET:
        seen, mend = (text.format(at=at, source=source.cluster, why=why, address=given[0]) for text in _MET[word])
        yield look.cause(seen, mend.replace("kubectl", destination.kubectl(), 1))
    else:
        more = ", and the service shows a certificate of the trusted root" if word == "trusted" else ""
        yield look.fine(f"Open {at}{more}.")


def _knock(done: ExecResult) -> str:
    if done.exit_code == TIMED_OUT and "SSL" in done.stdout:
        return "silent"
    return "open" if done.exit_code in _OPEN else _WORDS[done.exit_code]


def _shaken(source: Snapshot, address: str, asked: Asked, root: str) -> str:
    pods = source.list("Pod", asked.client_namespace, labels="app=prober")
    names = [one["name"] for pod in pods for one in pod["spec"]["containers"] if one["name"] != PROXY_CONTAINER]
    server_name = f"outbound_.{asked.port}_._.{asked.host}"
    argv = ["python3", "-I", "-S", "-c", _HANDSHAKE, address, str(EAST_WEST_PORT), server_name, f"{WAIT_S:g}", root]
    return run_in(source, pods, argv, _told, container=next(iter(names), ""))[1]


def _told(done: ExecResult) -> str:
    if done.exit_code:
        raise ValueError(done.stderr)
    return done.stdout.strip()


def within(look: Look, view: Snapshot, asked: Asked) -> Iterator[Finding]:
    """Ask a pod that should answer from within itself, where requests to it came to no end in time: is it that late?"""
    pod = next(filter(is_ready, view.behind(view.find("Service", asked.service, asked.namespace))), None)
    if pod is None:
        return
    argv = curl("-w", "%{time_total}", url_at(pod, asked.port, asked.path, view), wait_s=_OWN_S)
    name, took_s = run_in(view, [pod], argv, _seconds)
    if took_s > LATE_S:
        took = f"takes {took_s:.1f} s" if took_s < _OWN_S else f"says nothing within {_OWN_S:g} s"
        seen = f"{view.cluster}'s pods answer {look.direction.source} late: {name}, asked from within itself, {took}."
        yield look.cause(seen, f"{view.kubectl(asked.namespace)} top pods")
    else:
        yield look.fine(f"{view.cluster}'s pod {name}, asked from within itself, takes {took_s:.2f} s.")


def _seconds(done: ExecResult) -> float:
    return _OWN_S if done.exit_code == TIMED_OUT else float(_told(done))


# ---- what the asking proxy knows, and says


def known(look: Look, asked: Asked, source: Snapshot, destination: Snapshot) -> Iterator[Finding]:
    """Look into a client's sidecar (Envoy's ``/clusters``): is the destination's gateway an endpoint of the service?"""
    argv = ["pilot-agent", "request", "GET", "clusters?format=json"]
    statuses = run_in(source, asked.clients(source), argv, _statuses)[1]
    name, host = source.cluster, asked.host
    mend = f"{source.kubectl()} rollout restart deployment -l app=istiod"
    of_service = [one for one in statuses if str(one.get("name", "")).startswith(f"outbound|{asked.port}|")]
    of_service = [one for one in of_service if str(one["name"]).endswith(f"|{host}")]
    if not of_service:
        yield look.cause(f"{name}'s proxies know no service {host} at port {asked.port}.", mend)
        return
    there = [(*_socket(one), one) for status in of_service for one in status.get("host_statuses") or []]
    given = addresses_of(*services(destination))
    far = [(address, one) for address, port, one in there if port == EAST_WEST_PORT]
    ours = [one for address, one in far if address in given or not _is_number(given)]
    others = sorted({address for address, _ in far} - set(given))
    if not ours:
        stale = f", only {', '.join(others)}" if others else ""
        what = f"{destination.cluster}'s east-west gateway as an endpoint of {host}"
        seen = f"{name}'s proxies do not know {what}{stale}."
        yield look.cause(seen, mend)
    elif all((one.get("health_status") or {}).get("failed_outlier_check") for one in ours):
        seen = f"{name}'s proxies have thrown {destination.cluster}'s gateway out for its errors (outlier detection)."
        yield look.cause(seen, "mend what failed there; it is taken back by itself")
    else:
        yield look.fine(f"{name}'s proxies know {destination.cluster}'s gateway as an endpoint of {host}.")


def _statuses(done: ExecResult) -> list[Object]:
    found: list[Object] = json.loads(done.stdout)["cluster_statuses"]
    return found


def response_flags(look: Look, source: Snapshot, asked: Asked, since: pd.Timestamp | None) -> Iterator[Finding]:
    """Say which of Envoy's response flags the clients' sidecars have logged for the service ``since`` then."""
    if pd.isna(since):
        return
    where: dict[str, Any] = {"container": PROXY_CONTAINER, "since": since.to_pydatetime()}
    logs = [source.api.logs(pod["metadata"]["name"], asked.client_namespace, **where) for pod in asked.clients(source)]
    rows = [row for text in logs for line in text.splitlines() if (row := parse_access_log(line))]
    ours = [row for row in rows if row["hop"] == "outbound" and row["service"] == asked.host]
    if not ours:
        raise NotSeen(f"access logs of this service in {source.cluster}'s sidecars (meshConfig.accessLogFile)")
    if flags := [str(row["flags"]) for row in ours if row["flags"]]:
        yield look.noted(f"Of {len(ours)} requests {source.cluster}'s sidecars logged {flags_in_words(flags)}.")
    else:
        yield look.fine(f"{source.cluster}'s sidecars logged {len(ours)} requests, none with a response flag.")


def _socket(host: Object) -> tuple[str, int]:
    given: dict[str, Any] = (host.get("address") or {}).get("socket_address") or {}
    return str(given.get("address", "")), int(given.get("port_value", 0))


def _is_number(given: Sequence[str]) -> bool:
    """Tell whether the addresses are such as a proxy shows: a host name is resolved before."""
    return all(not address.strip("0123456789.:abcdefABCDEF") for address in given)
