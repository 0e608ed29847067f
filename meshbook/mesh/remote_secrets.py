"""Remote secrets, by which one cluster's control plane learns another's endpoints: each is tried, from here.

``tries`` uses the kubeconfigs that a cluster holds, as its control plane does, for three requests; where this machine
cannot, ``synced`` asks the control plane itself. ``judge`` says what that means for one direction. A login that would
run a program, or read a file of this machine, is not used.
"""

from __future__ import annotations

import base64
import binascii
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import yaml

from meshbook.clusters import Cluster, ExecResult, Kubeconfig, gather
from meshbook.errors import ClusterError, MeshbookError
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.reachability import run_in
from meshbook.mesh.snapshot import REMOTE_SECRETS, NotSeen, Snapshot
from meshbook.objects import EXEC_RIGHTS, SYSTEM_NAMESPACE, Object, containers_of, labels_of, timestamp
from meshbook.settings import Patience

_PATIENCE = Patience(connect_s=3.0, read_s=5.0, attempts=1)
_CLUSTER_FIELDS = ("server", "certificate-authority-data", "insecure-skip-tls-verify", "tls-server-name", "proxy-url")
_USER_FIELDS = ("token", "client-certificate-data", "client-key-data")
_MANAGED = "googleapis.com"
"""Where the injection webhook of a control plane is that Google runs: it knows the fleet's clusters without secrets."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """What came of one kubeconfig in one remote secret."""

    secret: str
    name: str
    """What the secret calls the cluster."""
    server: str = ""
    version: str = ""
    uid: str = ""
    """Which cluster answered; "" where the login may not see that."""
    listed: int | None = None
    """EndpointSlices that could be listed; None: they could not."""
    expires: datetime | None = None
    """When the token ends; None where it says nothing of an end."""
    refused: str = ""
    """What the server refused, with its words."""
    unused: str = ""
    """Why it could not be tried from here."""


def tries(view: Snapshot) -> list[Try]:
    """Try all kubeconfigs of all remote secrets of a cluster, at once; NotSeen where Secrets may not be listed."""
    work = {}
    for secret in view.list("Secret", SYSTEM_NAMESPACE, labels=REMOTE_SECRETS):
        for name, value in (secret.get("data") or {}).items():
            title = str(secret["metadata"]["name"])
            work[f"{title}/{name}"] = lambda title=title, name=name, value=value: _tried(title, name, value)
    return list(gather(work).values())


def _tried(secret: str, name: str, value: str) -> Try:
    begun = Try(secret=secret, name=name)
    try:
        config = _harmless(yaml.safe_load(base64.b64decode(value)))
    except (binascii.Error, yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
        return replace(begun, refused=f"it holds no kubeconfig ({type(error).__name__})")
    except MeshbookError as error:
        return replace(begun, unused=error.message)
    begun = replace(begun, server=config["clusters"][0]["cluster"]["server"], expires=_expiry(config))
    try:
        cluster = Cluster(Kubeconfig(f"secret {secret}", config), "remote", _PATIENCE)
    except MeshbookError as error:
        return replace(begun, refused=f"its kubeconfig cannot be used: {error.message}")
    try:
        return _asked(cluster, begun)
    finally:
        cluster.connection.close()


def _asked(cluster: Cluster, begun: Try) -> Try:
    try:
        version = cluster.version()
        uid = cluster.uid()
        listed = len(cluster.list("EndpointSlice"))
    except ClusterError as error:
        said = error.message.removeprefix("remote: ")
        if error.code:
            return replace(begun, refused=f"HTTP {error.code}, {said}")
        saw = str(error.evidence.get("saw", ""))
        if "certificate" in saw.lower():
            return replace(begun, refused=f"the certificate of {begun.server} does not fit it")
        return replace(begun, unused=f"an answer of {begun.server} to this machine")
    return replace(begun, version=version, uid=uid, listed=listed)


def _harmless(found: Any) -> dict[str, Any]:
    """Return the context in use as a kubeconfig of plain data: nothing in it runs a program or names a file."""
    context = next(one["context"] for one in found["contexts"] if one["name"] == found["current-context"])
    cluster = next(one["cluster"] for one in found["clusters"] if one["name"] == context["cluster"])
    user = next(one["user"] for one in found["users"] if one["name"] == context["user"])
    cluster = {key: cluster[key] for key in _CLUSTER_FIELDS if key in cluster}
    login = {key: user[key] for key in _USER_FIELDS if key in user}
    if not login:
        raise MeshbookError(f"a login by token or certificate, not by {' and '.join(user) or 'nothing'}")
    if urlsplit(cluster["server"]).scheme != "https":
        raise MeshbookError("a server that is reached by https")
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "remote",
        "contexts": [{"name": "remote", "context": {"cluster": "remote", "user": "remote"}}],
        "clusters": [{"name": "remote", "cluster": cluster}],
        "users": [{"name": "remote", "user": login}],
    }


def _expiry(config: Mapping[str, Any]) -> datetime | None:
    """Return when a JSON web token ends, by its own word."""
    parts = str(config["users"][0]["user"].get("token", "")).split(".")
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(payload["exp"], UTC)
    except (LookupError, ValueError, TypeError, OverflowError):
        return None


def secret(look: Look, source: Snapshot, destination: Snapshot) -> Iterator[Finding]:
    """Look at the remote secret by which ``source`` learns the endpoints of ``destination``."""
    tried, uid = tries(source), destination.api.uid()
    says = synced(source) if any(one.unused for one in tried) else {}
    yield from judge(look, source, destination, tried, uid, says)


def synced(source: Snapshot) -> dict[str, str]:
    """Return what an istiod says of each cluster that it reads, by name; empty where none is there to ask."""
    argv = ["pilot-discovery", "request", "GET", "/debug/clusterz"]
    istiods = source.list("Pod", SYSTEM_NAMESPACE, labels="app=istiod")
    try:
        return run_in(source, istiods, argv, _statuses, container="")[1]
    except NotSeen:
        return {}


def _statuses(done: ExecResult) -> dict[str, str]:
    return {str(one["id"]): str(one["syncStatus"]) for one in json.loads(done.stdout)}


# ---- what it means


def judge(
    look: Look,
    source: Snapshot,
    destination: Snapshot,
    tried: Sequence[Try],
    uid: str,
    says: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """Say whether ``source`` learns the endpoints of ``destination``, whose identity is ``uid`` ("": not known).

    ``says`` is what its istiod has of each cluster that it reads, for a secret that could not be tried.
    """
    mine, called = _meant(tried, destination, uid)
    mend = (
        f"istioctl create-remote-secret --context {shlex.quote(destination.api.context)} --name {called}"
        f" | {source.kubectl('')} apply -f -"
    )
    if mine is None:
        if not tried and is_managed(source):
            yield look.not_looked_at(
                f"the fleet's own view: {source.cluster}'s control plane is managed, without secrets"
            )
            return
        others = ", ".join(f"{one.secret} for {one.name}" for one in tried)
        there = f"only {others}" if others else f"no Secret {REMOTE_SECRETS} in {SYSTEM_NAMESPACE}"
        seen = f"{source.cluster} has no remote secret for {destination.cluster}: {there}."
        yield look.cause(f"{seen} So it does not know {destination.cluster}'s endpoints.", mend)
        return
    which = f"{source.cluster}'s remote secret {mine.secret} for {destination.cluster}"
    ended = mine.expires is not None and mine.expires <= datetime.now(UTC)
    status = (says or {}).get(mine.name, "")
    if mine.refused or ended:
        token = f" Its token expired at {timestamp(mine.expires)}." if ended else ""
        yield look.cause(f"{which} is refused: {mine.refused or 'its token is over'}.{token}", mend)
    elif mine.unused and status == "synced":
        yield look.fine(f"{which} was not tried from here, but {source.cluster}'s istiod has read what it leads to.")
    elif mine.unused and status in ("timeout", "closed"):
        yield look.cause(f"{source.cluster}'s istiod cannot read by {which.partition(' ')[2]} ({status}).", mend)
    elif mine.unused:
        yield look.not_looked_at(f"{mine.unused}, or istiod's own word ({EXEC_RIGHTS} in {SYSTEM_NAMESPACE})")
    elif uid and mine.uid and mine.uid != uid:
        yield look.cause(f"{which} leads to another cluster ({mine.server}).", f"{mend}, with --server where needed")
    else:
        until = f", until {timestamp(mine.expires)}" if mine.expires else ""
        yield look.fine(f"{which} works: {mine.version}, {mine.listed} EndpointSlices{until}.")


def _meant(tried: Sequence[Try], destination: Snapshot, uid: str) -> tuple[Try | None, str]:
    """Return the try that is for ``destination`` and what its mesh calls that cluster.

    By who answered; else by the name that the cluster's own proxies have; else the only one there is.
    """
    called = _mesh_name(destination)
    by_uid = next((one for one in tried if uid and one.uid == uid), None)
    by_name = next((one for one in tried if one.name in (called, destination.api.context)), None)
    only = tried[0] if len(tried) == 1 and not called else None
    return by_uid or by_name or only, called or destination.api.context


def _mesh_name(view: Snapshot) -> str:
    """Return the name by which the mesh knows a cluster, as its proxies are told; "" where none can be asked."""
    for pod in view.list("Pod"):
        for entry in (entry for one in containers_of(pod) for entry in one.get("env") or []):
            if entry["name"] == "ISTIO_META_CLUSTER_ID" and entry.get("value"):
                return str(entry["value"])
    return ""


def is_managed(view: Snapshot) -> bool:
    """Tell whether a cluster's proxies are injected from outside by Google's managed control plane."""
    hooks: list[Object] = [
        hook
        for one in view.list("MutatingWebhookConfiguration")
        if labels_of(one)
        for hook in one.get("webhooks") or []
    ]
    urls = [str((hook.get("clientConfig") or {}).get("url", "")) for hook in hooks]
    return any((urlsplit(url).hostname or "").endswith(_MANAGED) for url in urls)
