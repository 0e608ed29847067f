"""Mutating webhooks are asked as a real API server asks them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

Json = dict[str, Any]
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"


@dataclass
class Hook:
    """A webhook that labels what it is shown, or refuses it."""

    url: str = ""
    bundle: str = ""
    denies: str = ""
    reviews: list[Json] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.reviews.append(review["request"])
        operations = [{"op": "add", "path": "/metadata/annotations", "value": {"seen": "yes"}}]
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        answer: Json = {"uid": review["request"]["uid"], "allowed": not self.denies}
        answer |= {"status": {"message": self.denies}} if self.denies else {"patch": patch, "patchType": "JSONPatch"}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})

    def configuration(self, **more: Any) -> Json:
        rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}
        webhook = {
            "name": "inject.example.com",
            "clientConfig": {"url": self.url, "caBundle": self.bundle},
            "rules": [rule],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchLabels": {"istio.io/rev": "asm"}},
        }
        return {"metadata": {"name": "inject"}, "webhooks": [webhook | more]}


@pytest.fixture
async def hook(api: Any) -> AsyncIterator[Hook]:
    hook = Hook(bundle=base64.b64encode(api.authority.root_pem.encode()).decode())
    application = web.Application()
    application.router.add_post("/inject", hook.serve)
    runner = web.AppRunner(application)
    await runner.setup()
    address = api.cluster.istiod_address
    await web.TCPSite(runner, address, 0, ssl_context=api.authority.server_context("hook", [address])).start()
    hook.url = f"https://{address}:{runner.addresses[0][1]}/inject"
    labels = {"istio.io/rev": "asm"}
    await api.made("/api/v1/namespaces", {"metadata": {"name": "sample", "labels": labels}})
    yield hook
    await runner.cleanup()


SAMPLE = "/api/v1/namespaces/sample/pods"


async def test_a_webhook_changes_what_its_rules_and_selectors_match(api: Any, hook: Hook) -> None:
    await api.made(CONFIGURATIONS, hook.configuration())
    assert (await api.made(SAMPLE, api.pod()))["metadata"]["annotations"] == {"seen": "yes"}
    review = hook.reviews[0]
    assert (review["operation"], review["namespace"], review["kind"]["kind"]) == ("CREATE", "sample", "Pod")
    assert review["object"]["spec"]["restartPolicy"] == "Always"
    assert "annotations" not in (await api.made(api.PODS, api.pod()))["metadata"]
    await api.made("/api/v1/namespaces/sample/configmaps", api.config_map())
    await api("PATCH", f"{SAMPLE}/one", {"metadata": {"labels": {"a": "b"}}}, type=api.MERGE)
    assert len(hook.reviews) == 1


async def test_an_apply_that_creates_is_a_creation_to_webhooks(api: Any, hook: Hook) -> None:
    await api.made(CONFIGURATIONS, hook.configuration())
    made = await api("PATCH", f"{SAMPLE}/one", api.pod(), type=api.APPLY, fieldManager="one")
    assert made.body["metadata"]["annotations"] == {"seen": "yes"}
    await api("PATCH", f"{SAMPLE}/one", api.pod(), type=api.APPLY, fieldManager="one")
    assert len(hook.reviews) == 1


async def test_an_object_selector_spares_objects(api: Any, hook: Hook) -> None:
    selector = {"matchExpressions": [{"key": "sidecar", "operator": "NotIn", "values": ["false"]}]}
    await api.made(CONFIGURATIONS, hook.configuration(objectSelector=selector))
    spared = api.pod()
    spared["metadata"]["labels"] = {"sidecar": "false"}
    assert "annotations" not in (await api.made(SAMPLE, spared))["metadata"]


async def test_a_webhook_may_refuse(api: Any, hook: Hook) -> None:
    hook.denies = "not today"
    await api.made(CONFIGURATIONS, hook.configuration())
    answer = await api("POST", SAMPLE, api.pod())
    assert (answer.code, answer.reason) == (403, "Forbidden")
    assert answer.message == 'admission webhook "inject.example.com" denied the request: not today'


@pytest.mark.parametrize(("policy", "code"), [("Fail", 500), ("Ignore", 201)])
async def test_a_webhook_that_is_away_follows_its_failure_policy(api: Any, hook: Hook, policy: str, code: int) -> None:
    away = {"url": f"https://{api.cluster.istiod_address}:1/inject", "caBundle": hook.bundle}
    await api.made(CONFIGURATIONS, hook.configuration(clientConfig=away, failurePolicy=policy))
    answer = await api("POST", SAMPLE, api.pod())
    assert answer.code == code
    if code == 500:
        assert 'failed calling webhook "inject.example.com"' in answer.message


async def test_a_webhook_with_side_effects_is_spared_a_dry_run(api: Any, hook: Hook) -> None:
    await api.made(CONFIGURATIONS, hook.configuration(sideEffects="Some"))
    assert (await api("POST", SAMPLE, api.pod(), dryRun="All")).code == 400
    assert hook.reviews == []
