"""The fleet as data: its memberships, its features and the operations on them. No I/O; the clock is given.

A change takes effect when its operation is done; until then the feature says ``ENABLING``. Nothing runs in between:
what is done follows from the clock at the time of asking.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from meshbook.errors import LabError
from meshbook.lab.topology import ClusterTopology, LabTopology

Json = dict[str, Any]

INGRESS = "multiclusteringress"
FEATURES = (INGRESS, "multiclusterservicediscovery")
TYPE_PREFIX = "type.googleapis.com/google.cloud.gkehub.v1."
OPERATION_S = 0.3
"""How long a change takes: long enough that a client must ask for the operation at least once."""


class GoogleError(LabError):
    """A refusal in Google's form: HTTP ``code`` and canonical ``status``."""

    def __init__(self, code: int, status: str, message: str) -> None:
        self.code = code
        self.status = status
        super().__init__(message)

    @property
    def body(self) -> Json:
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


def _not_found(name: str) -> GoogleError:
    return GoogleError(404, "NOT_FOUND", f"Resource '{name}' was not found")


def _invalid(message: str) -> GoogleError:
    return GoogleError(400, "INVALID_ARGUMENT", message)


def _stamp(time: datetime) -> str:
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _membership(cluster: ClusterTopology, created: str) -> Json:
    project, location, name = cluster.membership.split("/")[1::2]
    link = f"//container.googleapis.com/projects/{project}/locations/{location}/clusters/{name}"
    endpoint = {"gkeCluster": {"resourceLink": link}} if cluster.is_gke else {"kubernetesMetadata": {"nodeCount": 1}}
    return {
        "name": cluster.membership,
        "endpoint": endpoint,
        "state": {"code": "READY"},
        "createTime": created,
        "updateTime": created,
        "uniqueId": str(uuid.uuid5(uuid.NAMESPACE_URL, cluster.membership)),
    }


class Fleet:
    """Memberships (fixed by the topology), features and operations of one project."""

    def __init__(self, topology: LabTopology, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        created = _stamp(now())
        self._memberships = {cluster.membership: _membership(cluster, created) for cluster in topology.clusters}
        self._features: dict[str, Json] = {}
        self._ready_at: dict[str, float] = {}
        self._operations: dict[str, tuple[float, Json]] = {}

    def memberships(self, parent: str) -> list[Json]:
        """Return the memberships below ``projects/P/locations/L``; location ``-`` stands for all."""
        prefix = parent.removesuffix("-") if parent.endswith("/-") else f"{parent}/"
        return [found for name, found in self._memberships.items() if name.startswith(prefix)]

    def membership(self, name: str) -> Json:
        if name not in self._memberships:
            raise _not_found(name)
        return self._memberships[name]

    def features(self, parent: str) -> list[Json]:
        return [self.feature(name) for name in self._features if name.startswith(f"{parent}/")]

    def feature(self, name: str) -> Json:
        """Return a feature with the states that follow from its specification and the clock."""
        if name not in self._features:
            raise _not_found(name)
        feature = copy.deepcopy(self._features[name])
        active = self._now().timestamp() >= self._ready_at[name]
        feature["resourceState"] = {"state": "ACTIVE" if active else "ENABLING"}
        if active:
            verdict = {"code": "OK", "updateTime": feature["updateTime"]}
            feature["state"] = {"state": {**verdict, "description": "Ready to use"}}
            feature["membershipStates"] = {member: {"state": verdict} for member in self._members_of(name)}
        return feature

    def create_feature(self, parent: str, feature_id: str, body: Json) -> Json:
        """Enable a feature; return the operation."""
        name = f"{parent}/features/{feature_id}"
        if feature_id not in FEATURES:
            raise GoogleError(501, "UNIMPLEMENTED", f"this lab's fleet has the features {', '.join(FEATURES)} only")
        if name in self._features:
            raise GoogleError(409, "ALREADY_EXISTS", f"Resource '{name}' already exists")
        spec: Json = {key: body[key] for key in ("spec", "labels") if key in body}
        self._check(feature_id, spec)
        created = _stamp(self._now())
        self._features[name] = {"name": name, "createTime": created, "updateTime": created, **spec}
        return self._change(name, "create", self._features[name])

    def patch_feature(self, name: str, mask: str, body: Json) -> Json:
        """Change the fields that ``mask`` names (all that ``body`` has, where it is empty or ``*``)."""
        if name not in self._features:
            raise _not_found(name)
        changed = copy.deepcopy(self._features[name])
        for path in (mask if mask not in ("", "*") else ",".join(body)).split(","):
            keys = [_camel(key) for key in path.split(".")]
            if keys[0] in ("spec", "labels"):
                _copy_path(body, changed, keys)
            elif mask not in ("", "*"):
                raise _invalid(f"field {path!r} of a feature cannot be updated")
        self._check(name.rsplit("/", 1)[1], changed)
        self._features[name] = {**changed, "updateTime": _stamp(self._now())}
        return self._change(name, "update", self._features[name])

    def delete_feature(self, name: str) -> Json:
        if self._features.pop(name, None) is None:
            raise _not_found(name)
        return self._change(name, "delete", None)

    def operation(self, name: str) -> Json:
        """Return an operation; it carries its response once it is done."""
        if name not in self._operations:
            raise _not_found(name)
        ready_at, finished = self._operations[name]
        if self._now().timestamp() >= ready_at:
            return finished
        return {key: value for key, value in finished.items() if key != "response"} | {"done": False}

    def _change(self, target: str, verb: str, feature: Json | None) -> Json:
        now = self._now()
        name = f"{target.split('/features/')[0]}/operations/operation-{uuid.uuid4()}"
        self._ready_at[target] = now.timestamp() + OPERATION_S
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        metadata = {"createTime": _stamp(now), "target": target, "verb": verb, "apiVersion": "v1"}
        finished = {
            "name": name,
            "metadata": {"@type": f"{TYPE_PREFIX}OperationMetadata", **metadata},
            "done": True,
            "response": empty if feature is None else {"@type": f"{TYPE_PREFIX}Feature", **feature},
        }
        self._operations[name] = (self._ready_at[target], finished)
        return self.operation(name)

    def _members_of(self, name: str) -> list[str]:
        only_gke = name.endswith(INGRESS)
        return [key for key, found in self._memberships.items() if "gkeCluster" in found["endpoint"] or not only_gke]

    def _check(self, feature_id: str, feature: Json) -> None:
        if feature_id != INGRESS:
            return
        member = feature.get("spec", {}).get(INGRESS, {}).get("configMembership", "")
        if member not in self._memberships:
            raise _invalid(f"spec.{INGRESS}.configMembership: membership {member!r} does not exist in the fleet")
        if "gkeCluster" not in self._memberships[member]["endpoint"]:
            raise _invalid(f"spec.{INGRESS}.configMembership: membership {member!r} is not a GKE cluster")


def _copy_path(source: Json, target: Json, keys: list[str]) -> None:
    """Set in ``target`` what ``source`` has below ``keys``; clear it where ``source`` has nothing."""
    for key in keys[:-1]:
        source, target = source.get(key, {}), target.setdefault(key, {})
    if keys[-1] in source:
        target[keys[-1]] = source[keys[-1]]
    else:
        target.pop(keys[-1], None)
