"""What each verb does with a request: reads, and writes in the order of a real server.

A write passes: the object that the body proposes (``decoding``) → what the request may not change (``strategy``) →
defaults → admission → ``validation`` → generation, ``managedfields`` → ``store``. Who may ask is settled before. What
depends on a deleted object is not ours to delete: garbage collector and namespace controller do that, as clients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from aiohttp import web

from meshbook.lab.apiserver import strategy, watch
from meshbook.lab.apiserver.admission import Admission
from meshbook.lab.apiserver.decoding import APPLY_PATCH, decoded, delete_options, document, typed
from meshbook.lab.apiserver.errors import (
    Failure,
    already_exists,
    bad_request,
    bad_value,
    conflict,
    expired,
    forbidden,
    invalid,
    method_not_allowed,
    not_found,
    stale,
    version_too_large,
)
from meshbook.lab.apiserver.managedfields import Manager, updated
from meshbook.lab.apiserver.patches import applied, merged, patched
from meshbook.lab.apiserver.printers import table, wants_table
from meshbook.lab.apiserver.rbac import Authorizer
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.schema import schema_of
from meshbook.lab.apiserver.store import AlreadyStored, NotStored, StaleWrite, Store, Stored, StoreFull, encode
from meshbook.lab.apiserver.streams import Kubelets
from meshbook.lab.apiserver.validation import check, faults
from meshbook.lab.topology import ClusterTopology
from meshbook.objects import Object, is_deleting, timestamp

PATCH_TRIES = 5
UNTRACKED = ("Event",)
"""Kinds of whose field managers nobody asks, and which are written often."""
_PRECONDITIONS = (("uid", "UID", "deleted and then recreated"), ("resourceVersion", "ResourceVersion", "modified"))
MOST_PODS = 500
"""Of one cluster, as a ResourceQuota bounds them: a node runs 110 of them, and nobody waits for a second node."""
UNDELETABLE = ("default", "kube-public", "kube-system")


def answer(body: bytes, status: int = 200, warnings: Iterable[str] = ()) -> web.Response:
    """Return a JSON answer; each warning becomes a header, which kubectl prints."""
    response = web.Response(body=body, status=status, content_type="application/json")
    for text in warnings:
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


class Handlers:
    """The verbs over one cluster's store."""

    def __init__(
        self,
        store: Store,
        cluster: ClusterTopology,
        admission: Admission,
        kubelets: Kubelets,
        authorizer: Authorizer,
    ) -> None:
        self._store = store
        self._authorizer = authorizer
        self._cluster = cluster
        self._admission = admission
        self._kubelets = kubelets

    async def handle(self, request: ApiRequest, http: web.Request) -> web.StreamResponse:
        match request.subresource, request.verb:
            case "exec", _:
                self._may_exec(request)
                return await self._kubelets.exec(request, self._current(request).object, http)
            case "log", _:
                return await self._kubelets.log(request, self._current(request).object, http)
            case "binding", "create":
                return answer(encode(await self._bind(request)), 201)
            case "binding" | "finalize", "get":
                raise method_not_allowed(request.kind)
            case "scale", "get":
                return answer(encode(scale_of(self._current(request).object)))
            case "scale", _:
                return answer(encode(await self._scale(request)))
            case _, "get":
                return answer(_one(request, self._current(request)))
            case _, "list":
                return answer(self._list(request))
            case _, "watch":
                return await watch.stream(self._store, request, http)
            case _, "delete":
                return answer(self._delete(request))
            case _, "deletecollection":
                return answer(self._delete_collection(request))
        wants_table(request)  # who takes no form of answer that there is, is refused before anything is written
        stored, created = await self._write(request)
        return answer(_one(request, stored), 201 if created else 200, request.warnings)

    def _may_exec(self, request: ApiRequest) -> None:
        """Refuse who may not create an exec, though a WebSocket begins with a GET; as in reality without saying why."""
        allowed, reason = self._authorizer.decide(request.user, dataclasses.replace(request.action, verb="create"))
        if not allowed:
            raise forbidden(request.kind, request.name, reason)

    def _current(self, request: ApiRequest) -> Stored:
        """Return the object that ``request`` names, or refuse with 404."""
        stored = self._store.get(request.kind.bucket, request.namespace, request.name)
        if stored is None:
            raise not_found(request.kind, request.name)
        return stored

    def _list(self, request: ApiRequest) -> bytes:
        """Return the text of a whole list: a server may pass over the wish in ``limit``."""
        request.check_list_options()
        asked, revision = request.number("resourceVersion") or 0, self._store.revision
        if asked > revision:
            raise version_too_large(asked, revision)
        if request.query.get("resourceVersionMatch") == "Exact" and asked != revision:
            raise expired(f"The resourceVersion for the provided list is too old: {asked}")
        if request.query.get("continue"):
            raise expired("The provided continue parameter is too old: lists come whole, start again")
        entries = self._store.list(request.kind.bucket, request.namespace, request.selection())
        if wants_table(request):
            return encode(table(request, entries, revision))
        return _list_body(request, entries, revision)

    async def _write(self, request: ApiRequest) -> tuple[Stored, bool]:
        """Create, replace or patch; a patch is made anew where another write came between. Returns whether created."""
        body = document(request)
        if request.verb == "create":
            obj = decoded(request, body)
            if obj["metadata"].get("resourceVersion"):
                raise bad_request("resourceVersion should not be set on objects to be created")
            return await self._create(request, obj, tracked=True), True
        applying = request.verb == "patch" and request.content_type == APPLY_PATCH
        for _ in range(PATCH_TRIES if request.verb == "patch" else 1):
            before = self._store.get(request.kind.bucket, request.namespace, request.name)
            if before is None:
                if not applying or request.subresource:
                    raise not_found(request.kind, request.name)
                self._authorizer.authorize(request.user, dataclasses.replace(request.action, verb="create"))
                return await self._create(request, applied(request, body, None), tracked=False), True
            if request.verb == "update":
                obj = decoded(request, body)
            else:
                obj = (applied if applying else patched)(request, body, before.object)
            _check_version_and_uid(request, obj, before)
            try:
                return await self._replace(request, obj, before, tracked=not applying), False
            except StaleWrite:
                request.warnings.clear()
        raise stale(request.kind, request.name)

    async def _create(self, request: ApiRequest, obj: Object, *, tracked: bool) -> Stored:
        kind = request.kind

        def taken(name: str) -> bool:
            return self._store.get(kind.bucket, request.namespace, name) is not None

        if kind.kind == "Pod" and len(self._store.list(kind.bucket)) >= MOST_PODS:
            used = f"used: pods={MOST_PODS}, limited: pods={MOST_PODS}"
            raise forbidden(kind, obj["metadata"].get("name", ""), f"exceeded quota: lab, requested: pods=1, {used}")
        strategy.generate_name(obj["metadata"], taken)
        self._namespace_accepts(request, obj["metadata"].get("name", ""))
        obj = await self._finished(request, strategy.for_create(kind, obj), None, tracked=tracked)
        name = obj["metadata"]["name"]
        if request.dry_run and not taken(name):
            return Stored(obj, self._store.revision)
        self._namespace_accepts(request, name)
        try:
            return self._store.create(kind.bucket, obj)
        except AlreadyStored:
            raise already_exists(kind, name) from None
        except StoreFull as error:
            raise forbidden(kind, name, str(error)) from error

    async def _replace(self, request: ApiRequest, obj: Object, before: Stored, *, tracked: bool) -> Stored:
        """Write ``obj`` over ``before``; raises ``StaleWrite`` where that is not the current state any more."""
        kind = request.kind
        obj = strategy.for_update(kind, request.subresource, obj, before.object)
        obj = await self._finished(request, obj, before.object, tracked=tracked)
        if obj == before.object:
            return before
        if request.dry_run:
            return Stored(obj, before.revision)
        try:
            finished = strategy.is_finished(kind, obj)
            return (self._store.delete if finished else self._store.replace)(kind.bucket, obj, before)
        except NotStored:
            raise not_found(kind, request.name) from None
        except StoreFull as error:
            raise forbidden(kind, request.name, str(error)) from error

    async def _finished(self, request: ApiRequest, obj: Object, before: Object | None, *, tracked: bool) -> Object:
        """Return ``obj`` with defaults, admitted, checked, and with its generation and managed fields."""
        kind = request.kind
        if request.subresource in ("", "scale"):
            self._fill(request, obj, before)
            admitted = await self._admission.mutate(request, obj, before)
            if admitted is not obj:
                obj = decoded(request, admitted, from_webhook=True)
                self._fill(request, obj, before)
            check(kind, obj, before)
            self._authorizer.confirm_no_escalation(request.user, kind, obj)
        elif causes := list(faults(obj, schema_of(kind.kind))):
            raise invalid(kind, request.name, *causes)
        obj = strategy.with_generation(kind, request.subresource, obj, before)
        if tracked and kind.kind not in UNTRACKED:
            manager = Manager(name=request.manager, operation="Update", subresource=request.subresource)
            obj = updated(before, obj, schema_of(kind.kind), manager, timestamp())
        return obj

    def _fill(self, request: ApiRequest, obj: Object, before: Object | None) -> None:
        """Fill in defaults where the object has the parts that defaults go into; ``check`` refuses it otherwise."""
        kind = request.kind
        if any(faults(obj, schema_of(kind.kind))):
            return
        strategy.defaults(kind, obj)
        if kind.kind == "Service":
            others = [entry.object for entry in self._store.list(kind.bucket) if entry.object is not before]
            strategy.allocate(obj, others, self._cluster)
        if kind.kind == "Pod" and before is None:
            self._account_exists(request, obj)

    def _namespace_accepts(self, request: ApiRequest, name: str) -> None:
        """Refuse a new object whose namespace is absent or going away."""
        if not request.kind.namespaced:
            return
        namespace = request.namespace
        stored = self._store.get("/namespaces", "", namespace)
        if stored is None:
            details = {"name": namespace, "kind": "namespaces"}
            raise Failure(404, "NotFound", f'namespaces "{namespace}" not found', details)
        if is_deleting(stored.object):
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            message = f"namespace {namespace} is being terminated"
            cause = {"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}
            raise forbidden(request.kind, name, why, cause)

    def _account_exists(self, request: ApiRequest, pod: Object) -> None:
        """Refuse a new pod whose named ServiceAccount is absent; ``default`` is always taken as there."""
        account = pod["spec"].get("serviceAccountName", "default")
        if account != "default" and self._store.get("/serviceaccounts", request.namespace, account) is None:
            which = f"{request.namespace}/{account}"
            why = f'error looking up service account {which}: serviceaccount "{account}" not found'
            raise forbidden(request.kind, pod["metadata"].get("name", ""), why)

    def _delete(self, request: ApiRequest) -> bytes:
        kind, before = request.kind, self._current(request)
        if kind.kind == "Namespace" and request.name in UNDELETABLE:
            raise forbidden(kind, request.name, "this namespace may not be deleted")
        options = delete_options(request)
        _check_preconditions(request, options.get("preconditions") or {}, before)
        after, gone = self._deleted(request, before, options)
        if not gone or kind.kind == "Pod":
            return after.encoded(request.api_version)
        metadata = before.object["metadata"]
        details = {"name": metadata["name"], "kind": kind.plural, "uid": metadata["uid"]}
        return encode(_success() | {"details": details | ({"group": kind.group} if kind.group else {})})

    def _delete_collection(self, request: ApiRequest) -> bytes:
        """Delete what the request's selectors select."""
        if "deletecollection" not in request.kind.verbs:
            raise method_not_allowed(request.kind)
        options = delete_options(request)
        entries = self._store.list(request.kind.bucket, request.namespace, request.selection())
        after = [self._deleted(request, before, options)[0] for before in entries]
        return _list_body(request, after, self._store.revision)

    def _deleted(self, request: ApiRequest, before: Stored, options: Object) -> tuple[Stored, bool]:
        """Delete an object, or mark it until finalizers and grace are over. Returns its last state; whether gone."""
        kind, dry_run = request.kind, request.dry_run or options.get("dryRun") == ["All"]
        grace_s = strategy.grace_of(kind, before.object, options.get("gracePeriodSeconds"))
        marked = strategy.marked_for_deletion(kind, before.object, options.get("propagationPolicy"), grace_s)
        gone = strategy.is_finished(kind, marked)
        if dry_run or marked == before.object:
            return (Stored(marked, before.revision) if dry_run else before), gone
        return (self._store.delete if gone else self._store.replace)(kind.bucket, marked, before), gone

    async def _scale(self, request: ApiRequest) -> Object:
        """Set the replicas of a workload through its Scale, by PUT or by a patch."""
        before = self._current(request)
        wanted = document(request)
        if request.verb == "patch":
            wanted = merged(request, wanted, scale_of(before.object), schema_of("Scale"))
        scale = typed(wanted, "Scale", "v1")
        if scale["metadata"].get("name", request.name) != request.name:
            why = f"({scale['metadata']['name']}) does not match the name on the URL ({request.name})"
            raise bad_request(f"the name of the object {why}")
        if causes := list(faults(scale, schema_of("Scale"))):
            raise invalid(request.kind, request.name, *causes)
        replicas = scale.get("spec", {}).get("replicas", 0)
        _check_version_and_uid(request, scale, before)
        obj = before.object | {"spec": before.object["spec"] | {"replicas": replicas}}
        return scale_of((await self._put(request, obj, before)).object)

    async def _bind(self, request: ApiRequest) -> Object:
        """Bind a pod to a node: how a scheduler sets ``spec.nodeName``."""
        binding = typed(document(request), "Binding", "v1")
        before, node = self._current(request), binding.get("target", {}).get("name", "")
        if binding["metadata"].get("name") != request.name:
            raise bad_request("name in URL does not match name in Binding object")
        spec = before.object["spec"]
        if not node:
            raise bad_request("target.name: Required value")
        if spec.get("nodeName"):
            why = f'pod {request.name} is already assigned to node "{spec["nodeName"]}"'
            raise conflict(request.kind, request.name, why)
        if is_deleting(before.object):
            why = f"pod {request.name} is being deleted, cannot be assigned to a host"
            raise conflict(request.kind, request.name, why)
        await self._put(request, before.object | {"spec": spec | {"nodeName": node}}, before)
        return _success() | {"code": 201}

    async def _put(self, request: ApiRequest, obj: Object, before: Stored) -> Stored:
        try:
            return await self._replace(dataclasses.replace(request, verb="update"), obj, before, tracked=True)
        except StaleWrite:
            raise stale(request.kind, request.name) from None


def scale_of(obj: Object) -> Object:
    """Return the Scale object of a workload; zero replicas are left out of its spec, as in the API's own type."""
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = obj["spec"]["selector"].get("matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    replicas = obj["spec"]["replicas"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in names if name in obj["metadata"]},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {"replicas": obj.get("status", {}).get("replicas", 0), "selector": selector},
    }


def _success() -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def _one(request: ApiRequest, stored: Stored) -> bytes:
    """Return one object's text as the request wants it."""
    if wants_table(request):
        return encode(table(request, [stored], stored.revision))
    return stored.encoded(request.api_version)


def _list_body(request: ApiRequest, entries: Iterable[Stored], revision: int) -> bytes:
    head: Object = {"kind": f"{request.kind.kind}List", "apiVersion": request.api_version}
    items = b",".join(entry.encoded(request.api_version) for entry in entries)
    return encode(head | {"metadata": {"resourceVersion": str(revision)}})[:-1] + b',"items":[' + items + b"]}"


def _check_version_and_uid(request: ApiRequest, obj: Object, before: Stored) -> None:
    """Refuse a write that insists on another version or another object than the one that is there."""
    there, given = before.object["metadata"], obj["metadata"]
    if given.get("uid") not in (None, "", there["uid"]):
        key = f"/registry/{request.kind.plural}/{request.namespace}/{request.name}"
        why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {there['uid']}"
        error = f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
        raise conflict(request.kind, request.name, error)
    if given.get("resourceVersion") not in (None, "", there["resourceVersion"]):
        raise stale(request.kind, request.name)
    if request.kind.custom and request.verb == "update" and not given.get("resourceVersion"):
        cause = bad_value("metadata.resourceVersion", 0, "must be specified for an update")
        raise invalid(request.kind, request.name, cause)


def _check_preconditions(request: ApiRequest, wanted: Object, before: Stored) -> None:
    there = before.object["metadata"]
    named = dataclasses.replace(request.kind, plural=request.kind.kind)  # as the real one names it here, and only here
    for name, label, fate in _PRECONDITIONS:
        if wanted.get(name) not in (None, there[name]):
            why = (
                f"the {label} in the precondition ({wanted[name]}) does not match the {label} in record ({there[name]})"
            )
            raise conflict(named, request.name, f"{why}. The object might have been {fate}")
