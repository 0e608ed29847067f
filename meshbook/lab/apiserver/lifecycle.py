"""The rules of an object's life: name and namespace at birth, what an update leaves alone, deletion marks, the end.

Functions of data; they return new trees where they change something.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from meshbook.lab.apiserver.failures import Cause, Failure, forbidden, invalid, not_allowed
from meshbook.lab.apiserver.kinds import Json, Kind
from meshbook.lab.apiserver.store import Store

GENERATED = "bcdfghjklmnpqrstvwxz2456789"
"""Letters of generated names: no vowels, nothing that looks like something else."""
GENERATED_LENGTH = 5
LONGEST_PREFIX = 63 - GENERATED_LENGTH
NAME_TRIES = 8
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"

_FIXED = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")


def timestamp(offset_s: int = 0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=offset_s)).strftime("%Y-%m-%dT%H:%M:%SZ")


def name_new(metadata: Json, taken: Callable[[str], bool]) -> None:
    """Give a new object that has only ``generateName`` a name that is not ``taken``."""
    if metadata.get("name") or not metadata.get("generateName"):
        return
    prefix = metadata["generateName"][:LONGEST_PREFIX]
    for _ in range(NAME_TRIES):
        metadata["name"] = prefix + "".join(random.choices(GENERATED, k=GENERATED_LENGTH))
        if not taken(metadata["name"]):
            return


def namespace_accepts(store: Store, kind: Kind, metadata: Json) -> None:
    """Refuse a new object whose namespace is absent or going away."""
    if not kind.namespaced:
        return
    namespace = metadata["namespace"]
    stored = store.get("/namespaces", "", namespace)
    if stored is None:
        details = {"name": namespace, "kind": "namespaces"}
        raise Failure(404, "NotFound", f'namespaces "{namespace}" not found', details)
    if "deletionTimestamp" in stored.object["metadata"]:
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        message = f"namespace {namespace} is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
        raise forbidden(kind, metadata.get("name", ""), why, [cause])


def account_exists(store: Store, pod: Json, kind: Kind) -> None:
    """Refuse a new pod whose named ServiceAccount is absent; ``default`` is always taken as there."""
    namespace, account = pod["metadata"]["namespace"], pod["spec"].get("serviceAccountName", "default")
    if account != "default" and store.get("/serviceaccounts", namespace, account) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise forbidden(kind, pod["metadata"].get("name", ""), why)


def newborn(kind: Kind, obj: Json, uid: str) -> Json:
    """Return a new object with its identity, and without what only the server or a controller says."""
    unset = (*_FIXED, "resourceVersion")
    metadata = {name: value for name, value in obj["metadata"].items() if name not in unset}
    metadata |= {"uid": uid, "creationTimestamp": timestamp()}
    if kind.counts_generations:
        metadata["generation"] = 1
    born = obj | {"metadata": metadata}
    if "status" in kind.subresources and kind.kind != "Node":
        born.pop("status", None)
    if kind.kind == "Namespace":
        born["spec"] = {"finalizers": ["kubernetes"]}
    return born


def carried_over(kind: Kind, subresource: str, obj: Json, old: Json) -> Json:
    """Return the object that results when ``obj`` is written over ``old`` through ``subresource``."""
    if subresource in ("status", "finalize"):
        part = "spec" if subresource == "finalize" else "status"
        owned = {name: value for name, value in obj["metadata"].items() if name == "managedFields"}
        return old | {"metadata": old["metadata"] | owned, part: obj.get(part, {})}
    new = {name: value for name, value in obj.items() if name != "status" or "status" not in kind.subresources}
    if "status" in kind.subresources and "status" in old:
        new["status"] = old["status"]
    if kind.kind == "Namespace":
        new["spec"] = old.get("spec", {})
    if kind.kind == "Service":
        new["spec"] = _addresses_kept(new["spec"], old["spec"])
    return new | {"metadata": _metadata_kept(kind, obj["metadata"], old["metadata"])}


def _metadata_kept(kind: Kind, new: Json, old: Json) -> Json:
    kept = {name: old[name] for name in (*_FIXED, "resourceVersion") if name in old}
    metadata = {name: value for name, value in new.items() if name not in _FIXED} | kept
    added = set(new.get("finalizers", ())) - set(old.get("finalizers", ()))
    if added - {ORPHAN, FOREGROUND} and "deletionTimestamp" in old:
        detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
        raise invalid(kind, old["name"], [not_allowed("metadata.finalizers", detail)])
    return metadata


def _addresses_kept(new: Json, old: Json) -> Json:
    """A Service that does not say its addresses keeps those that it has."""
    if new.get("type") == "ExternalName" or old.get("type") == "ExternalName":
        return new
    kept = {name: old[name] for name in ("clusterIP", "clusterIPs") if name in old and not new.get(name)}
    node_ports = {port["port"]: port["nodePort"] for port in old.get("ports", ()) if "nodePort" in port}
    wants = new.get("type") in ("LoadBalancer", "NodePort")
    ports = [
        port | {"nodePort": node_ports[port["port"]]}
        if wants and port.get("port") in node_ports and "nodePort" not in port
        else port
        for port in new.get("ports", ())
    ]
    return new | kept | ({"ports": ports} if ports else {})


def counted(kind: Kind, obj: Json, old: Json | None) -> Json:
    """Return ``obj`` with its generation one higher when more than metadata and status changed."""
    if old is None or not kind.counts_generations or _wish(obj) == _wish(old):
        return obj
    return obj | {"metadata": obj["metadata"] | {"generation": old["metadata"].get("generation", 0) + 1}}


def _wish(obj: Json) -> Json:
    return {name: value for name, value in obj.items() if name not in ("metadata", "status")}


def marked_for_deletion(kind: Kind, obj: Json, policy: str | None, grace_s: int) -> Json:
    """Return ``obj`` as a deletion leaves it before finalizers and grace are over."""
    metadata = dict(obj["metadata"])
    finalizers = [name for name in metadata.get("finalizers", ()) if not policy or name not in (ORPHAN, FOREGROUND)]
    finalizers += [{"Orphan": ORPHAN, "Foreground": FOREGROUND}[policy]] if policy in ("Orphan", "Foreground") else []
    metadata["finalizers"] = finalizers
    if not finalizers:
        del metadata["finalizers"]
    if "deletionTimestamp" not in metadata or grace_s < metadata.get("deletionGracePeriodSeconds", 0):
        metadata |= {"deletionTimestamp": timestamp(grace_s), "deletionGracePeriodSeconds": grace_s}
    marked = obj | {"metadata": metadata}
    if kind.kind == "Namespace":
        marked["status"] = obj.get("status", {}) | {"phase": "Terminating"}
    return marked


def is_finished(kind: Kind, obj: Json) -> bool:
    """Say whether nothing holds an object that was marked for deletion any more."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if kind.kind == "Namespace" and obj.get("spec", {}).get("finalizers"):
        return False
    return bool(metadata.get("deletionGracePeriodSeconds", 0) == 0)


def grace_of(kind: Kind, obj: Json, asked: int | None) -> int:
    """Return the seconds that an object keeps after its deletion: some for a pod on a node, none for the rest."""
    if kind.kind != "Pod" or not obj["spec"].get("nodeName"):
        return 0
    if obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    grace = obj["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
    if grace < 0:
        field = "gracePeriodSeconds"
        cause = Cause(field=field, reason="FieldValueInvalid", message=f"Invalid value: {grace}: must be at least 0")
        raise invalid(kind, obj["metadata"]["name"], [cause])
    return int(grace)
