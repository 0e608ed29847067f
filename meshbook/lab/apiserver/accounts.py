"""Service accounts: the tokens that pods come with, who comes with one, and where a pod finds its own.

A token is a JWT as on a real server: for one account, for a time, and bound to a pod if one was named. It is signed
with a key that this server alone has and that goes with it. What an account may do is in ``rbac``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
import time
from datetime import UTC, datetime
from typing import Any

from meshbook.lab.apiserver.access import User
from meshbook.lab.apiserver.failures import bad_request, bad_value, conflict, invalid, not_found, not_supported
from meshbook.lab.apiserver.kinds import KINDS, Json, Kind
from meshbook.lab.apiserver.lifecycle import GENERATED, GENERATED_LENGTH, timestamp
from meshbook.lab.apiserver.rbac import account_name, grants_of
from meshbook.lab.apiserver.reading import current
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.shapes import Intake, shape_of
from meshbook.lab.apiserver.store import Store, encode

DEFAULT_LIFE_S, LEAST_LIFE_S, LIFE_IN_PODS_S = 3600, 600, 3607
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME = "kube-api-access-"
"""Begins the name of the volume that a pod gets for its token."""

_REQUEST = Kind(group="authentication.k8s.io", kind="TokenRequest", plural="tokenrequests")
_PODS = next(kind for kind in KINDS if kind.kind == "Pod")
_HEADER = {"alg": "HS256", "typ": "JWT"}


class Accounts:
    """The service accounts of one cluster. ``issuer`` is the server's own address, and its own audience."""

    def __init__(self, store: Store, issuer: str) -> None:
        self._store = store
        self._issuer = issuer
        self._key = secrets.token_bytes(32)

    def issue(self, request: ApiRequest) -> Json:
        """Answer a TokenRequest."""
        asked = Intake("TokenRequest", "v1").conform(request.document(), shape_of("TokenRequest"))
        spec = {"expirationSeconds": DEFAULT_LIFE_S, "audiences": [self._issuer], **asked.get("spec", {})}
        if spec["expirationSeconds"] < LEAST_LIFE_S:
            detail = "may not specify a duration less than 10 minutes"
            raise invalid(_REQUEST, "", [bad_value("spec.expirationSeconds", spec["expirationSeconds"], detail)])
        account = current(self._store, request).object["metadata"]
        private = {"namespace": request.namespace, "serviceaccount": {key: account[key] for key in ("name", "uid")}}
        if reference := spec.get("boundObjectRef"):
            private["pod"] = self._bound(request, reference)
        expires = int(time.time()) + spec["expirationSeconds"]
        token = self._sign(
            {
                "iss": self._issuer,
                "sub": account_name(request.namespace, request.name),
                "aud": spec["audiences"],
                "exp": expires,
                "kubernetes.io": private,
            }
        )
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        metadata = {"name": request.name, "namespace": request.namespace, "creationTimestamp": timestamp()}
        until = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return head | {"metadata": metadata, "spec": spec, "status": {"token": token, "expirationTimestamp": until}}

    def _bound(self, request: ApiRequest, reference: Json) -> Json:
        """Return what a token says of the pod that it is bound to."""
        kind, name = reference.get("kind", ""), reference.get("name", "")
        if kind != "Pod":
            raise invalid(_REQUEST, "", [not_supported("spec.boundObjectRef.kind", kind, "Pod")])
        pod = self._store.get("/pods", request.namespace, name)
        if pod is None:
            raise not_found(_PODS, name)
        uid = pod.object["metadata"]["uid"]
        if pod.object["spec"].get("serviceAccountName") != request.name:
            why = "to pod running with different serviceaccount name."
            raise bad_request(f'cannot bind token for serviceaccount "{request.name}" {why}')
        if reference.get("uid") not in (None, "", uid):
            why = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. "
            raise conflict(_PODS, name, why + "The object might have been deleted and then recreated")
        return {"name": name, "uid": uid}

    def user_of(self, token: str) -> User | None:
        """Return whose token this is; None for one that is not ours or not valid any more."""
        claims = self._read(token)
        if claims is None or claims["exp"] < time.time() or self._issuer not in claims["aud"]:
            return None
        private = claims["kubernetes.io"]
        namespace, account = private["namespace"], private["serviceaccount"]
        if not self._is_there("/serviceaccounts", namespace, account):
            return None
        if "pod" in private and not self._is_there("/pods", namespace, private["pod"]):
            return None
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(name=claims["sub"], groups=groups, grants=grants_of(self._store, claims["sub"], groups))

    def _is_there(self, bucket: str, namespace: str, wanted: Json) -> bool:
        stored = self._store.get(bucket, namespace, wanted["name"])
        return stored is not None and stored.object["metadata"]["uid"] == wanted["uid"]

    def _sign(self, claims: Json) -> str:
        text = ".".join(_coded(encode(part)) for part in (_HEADER, claims))
        return f"{text}.{self._signature(text)}"

    def _read(self, token: str) -> Any:
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            return None
        body = text.partition(".")[2]
        return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))

    def _signature(self, text: str) -> str:
        return _coded(hmac.digest(self._key, text.encode(), hashlib.sha256))


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def mount_token(store: Store, pod: Json) -> None:
    """Give the containers of a new pod the volume with its token, unless the pod or its account wants none."""
    spec = pod["spec"]
    stored = store.get("/serviceaccounts", pod["metadata"]["namespace"], spec["serviceAccountName"])
    by_account = stored.object.get("automountServiceAccountToken", True) if stored else True
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    bare = [one for one in containers if MOUNT_PATH not in (m["mountPath"] for m in one.get("volumeMounts", ()))]
    if not bare or not spec.get("automountServiceAccountToken", by_account):
        return
    volumes = spec.setdefault("volumes", [])
    if not any(volume["name"].startswith(VOLUME) for volume in volumes):
        volumes.append(_token_volume(VOLUME + "".join(random.choices(GENERATED, k=GENERATED_LENGTH))))
    name = next(volume["name"] for volume in volumes if volume["name"].startswith(VOLUME))
    for container in bare:
        mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
        container["volumeMounts"] = [*container.get("volumeMounts", ()), mount]


def _token_volume(name: str) -> Json:
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": LIFE_IN_PODS_S, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}},
    ]
    return {"name": name, "projected": {"sources": sources, "defaultMode": 420}}
