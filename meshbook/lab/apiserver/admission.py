"""Mutating admission: asks the webhooks that MutatingWebhookConfigurations name, over HTTPS, as a real server does.

``clientConfig.url`` only; a Service cannot be reached from here. ``matchConditions`` and re-invocation are not done.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import uuid
from collections.abc import Iterator
from typing import Any

import aiohttp

from meshbook.lab.apiserver.errors import Failure, bad_request, internal
from meshbook.lab.apiserver.patches import json_patch
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.store import Store
from meshbook.objects import Object, labels_of, selects

CONFIGURATIONS = "admissionregistration.k8s.io/mutatingwebhookconfigurations"


class Admission:
    """Calls the webhooks of one cluster."""

    def __init__(self, store: Store, session: aiohttp.ClientSession) -> None:
        self._store = store
        self._session = session
        self._trust: dict[str, ssl.SSLContext] = {}

    async def mutate(self, request: ApiRequest, obj: Object, before: Object | None) -> Object:
        """Return ``obj`` as the webhooks leave it: the same object when none of them changes it."""
        for webhook in self._matching(request, obj, before):
            if request.dry_run and webhook["sideEffects"] not in ("None", "NoneOnDryRun"):
                raise bad_request(f'admission webhook "{webhook["name"]}" does not support dry run')
            try:
                obj = await self._call(webhook, request, obj, before)
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, OSError) as error:
                if webhook.get("failurePolicy") == "Ignore":
                    continue
                cause = str(error) or type(error).__name__
                message = f'failed calling webhook "{webhook["name"]}": failed to call webhook: {cause}'
                raise internal(message) from error
        return obj

    def _matching(self, request: ApiRequest, obj: Object, before: Object | None) -> Iterator[Object]:
        if request.kind.bucket == CONFIGURATIONS:
            return
        for configuration in self._store.list(CONFIGURATIONS):
            for webhook in configuration.object.get("webhooks", ()):
                rules = any(_matches(rule, request, before is None) for rule in webhook.get("rules", ()))
                if rules and self._selected(webhook, request, obj, before):
                    yield webhook

    def _selected(self, webhook: Object, request: ApiRequest, obj: Object, before: Object | None) -> bool:
        of_objects, of_namespaces = (webhook.get(name) or {} for name in ("objectSelector", "namespaceSelector"))
        if not any(selects(of_objects, labels_of(one)) for one in (obj, before or obj)):
            return False
        if request.kind.kind == "Namespace":
            return selects(of_namespaces, labels_of(obj))
        if not request.kind.namespaced:
            return True
        stored = self._store.get("/namespaces", "", request.namespace)
        return selects(of_namespaces, labels_of(stored.object) if stored else {})

    async def _call(self, webhook: Object, request: ApiRequest, obj: Object, before: Object | None) -> Object:
        review = _review(request, obj, before)
        url = webhook["clientConfig"].get("url")
        if not url:
            raise ValueError("the webhook has no clientConfig.url, and Services are not reachable")
        timeout_s = webhook.get("timeoutSeconds", 10)
        trust = self._context(webhook["clientConfig"].get("caBundle", ""))
        async with asyncio.timeout(timeout_s), self._session.post(url, json=review, ssl=trust) as response:
            if response.status != 200:
                raise ValueError(f"{url} answered HTTP {response.status}: {(await response.text())[:200]}")
            answer = (await response.json(content_type=None))["response"]
        request.warnings.extend(answer.get("warnings") or ())
        if answer["uid"] != review["request"]["uid"]:
            raise ValueError(f"{url} answered another request: uid {answer['uid']}")
        if not answer["allowed"]:
            raise _denied(webhook["name"], answer.get("status") or {})
        return _patched(obj, answer)

    def _context(self, bundle: str) -> ssl.SSLContext:
        if bundle not in self._trust:
            pem = base64.b64decode(bundle).decode()
            self._trust[bundle] = ssl.create_default_context(cadata=pem) if pem else ssl.create_default_context()
        return self._trust[bundle]


def _matches(rule: Object, request: ApiRequest, created: bool) -> bool:
    kind = request.kind
    resource = f"{kind.plural}/{request.subresource}" if request.subresource else kind.plural
    names = {resource, "*/*", f"{kind.plural}/*"} | (set() if request.subresource else {"*"})
    return (
        bool({"CREATE" if created else "UPDATE", "*"} & set(rule.get("operations", ())))
        and bool({kind.group, "*"} & set(rule.get("apiGroups", ())))
        and bool({*kind.versions, "*"} & set(rule.get("apiVersions", ())))
        and bool(names & set(rule.get("resources", ())))
        and rule.get("scope", "*") in ("*", "Namespaced" if kind.namespaced else "Cluster")
    )


def _review(request: ApiRequest, obj: Object, before: Object | None) -> Object:
    kind = request.kind
    version = {"group": kind.group, "version": kind.versions[0]}
    user = {"username": request.user.name, "groups": list(request.user.groups)}
    asked: Object = {"uid": str(uuid.uuid4()), "kind": version | {"kind": kind.kind}}
    asked |= {"resource": version | {"resource": kind.plural}, "name": obj["metadata"].get("name", "")}
    asked |= {"namespace": request.namespace, "operation": "UPDATE" if before else "CREATE", "userInfo": user}
    asked |= {"object": obj, "oldObject": before, "dryRun": request.dry_run, "options": None}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}


def _denied(name: str, status: Object) -> Failure:
    message = status.get("message") or status.get("reason") or "without explanation"
    code = status.get("code") or 403
    reason = status.get("reason") or ("Forbidden" if code == 403 else "")
    separator = " " if message == "without explanation" else ": "
    return Failure(code, reason, f'admission webhook "{name}" denied the request{separator}{message}')


def _patched(obj: Object, answer: Object) -> Object:
    if not answer.get("patch"):
        return obj
    if answer.get("patchType") != "JSONPatch":
        raise ValueError(f"unsupported patchType {answer.get('patchType')!r}")
    operations: Any = json.loads(base64.b64decode(answer["patch"]))
    return json_patch(obj, operations)
