"""Injection: what becomes of a pod that the API server shows to the webhook, and the webhook itself.

``review`` is pure: an AdmissionReview in, an answer out. Which pods are shown at all is decided by the selectors of
the MutatingWebhookConfiguration: the namespace's label ``istio.io/rev``, or the pod's where the namespace has none;
never in a namespace labelled ``istio-injection``. As with Istio's CNI plugin there is no init container: traffic is
not redirected, programs use the sidecar as proxy.
"""

from __future__ import annotations

import base64
import copy
import json
import ssl
from collections.abc import Mapping

import jsonpatch
from aiohttp import web

from meshbook.lab.images import UNINJECTED
from meshbook.lab.topology import (
    PROXY_HEALTH_PORT,
    PROXY_METRICS_PORT,
    REVISION,
    TRUST_DOMAIN,
    WEBHOOK_PORT,
    ClusterTopology,
)
from meshbook.objects import PROXY_CONTAINER, REVISION_LABEL, Object

INJECT = "sidecar.istio.io/inject"
NATIVE = "sidecar.istio.io/nativeSidecar"
"""Annotation by which a pod has its proxy beside its application (``false``), or before it."""
TEMPLATES = "inject.istio.io/templates"
SIDECAR, GATEWAY = "sidecar", "gateway"
IGNORED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")

IMAGE = "gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9"
ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_VOLUME = "istiod-ca-cert"
PROBE_PERIOD_S = 1
"""Istio asks every 15 s; the lab hears sooner of a proxy that is not well."""
STARTUP_FAILURES = 600

CANONICAL_NAME = "service.istio.io/canonical-name"
CANONICAL_REVISION = "service.istio.io/canonical-revision"
LIST_KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "name"}
"""By which field the members of a container's lists are the same."""
MAX_REVIEW_BYTES = 4 * 1024 * 1024


class UnknownTemplate(ValueError):
    """A pod asks for an injection template that is not there."""


class Webhook:
    """Serves ``/inject`` by HTTPS on the istiod address of one cluster. No Kubernetes client, no state."""

    def __init__(self, cluster: ClusterTopology, tls: ssl.SSLContext, *, native: bool) -> None:
        self._cluster = cluster
        self._native = native
        self._tls = tls
        app = web.Application(client_max_size=MAX_REVIEW_BYTES)
        app.router.add_post("/inject", self._inject)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._cluster.istiod_address, WEBHOOK_PORT, ssl_context=self._tls).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            answer = review(await request.json(), self._cluster, native=self._native)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            return web.Response(status=400, text=f"not an AdmissionReview of a pod: {error!r}")
        return web.json_response(answer)


def review(request: Object, cluster: ClusterTopology, *, native: bool) -> Object:
    """Answer an AdmissionReview (v1) for a pod of ``cluster``."""
    question = request["request"]
    answer: Object = {"uid": question["uid"], "allowed": True}
    pod, namespace = question["object"], question.get("namespace", "")
    try:
        operations = jsonpatch.make_patch(pod, injected(pod, namespace, cluster, native=native)).patch
    except UnknownTemplate as error:
        answer |= {"allowed": False, "status": {"code": 400, "message": str(error)}}
        operations = []
    if operations:
        answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def injected(pod: Object, namespace: str, cluster: ClusterTopology, *, native: bool) -> Object:
    """Return the pod with its proxy, or as it was when it does not want one.

    A ``native`` sidecar is an init container that goes on running, unless the pod says otherwise; a gateway never is.
    """
    said = pod.get("metadata", {})
    labels, annotations = said.get("labels") or {}, said.get("annotations") or {}
    wish = labels.get(INJECT) or annotations.get(INJECT, "true")
    if wish == "false" or pod["spec"].get("hostNetwork") or namespace in IGNORED_NAMESPACES:
        return pod
    template = annotations.get(TEMPLATES, SIDECAR)
    if template not in (SIDECAR, GATEWAY):
        raise UnknownTemplate(f"injection template {template!r} is not there; known: {SIDECAR}, {GATEWAY}")
    result = copy.deepcopy(pod)
    spec, metadata = result["spec"], result.setdefault("metadata", {})
    name = _workload_name(said, labels)
    revision = labels.get(CANONICAL_REVISION) or labels.get("version", "latest")
    # The TLS mode tells clients that a sidecar listens; what the pod says itself counts.
    tls = {} if template == GATEWAY else {"security.istio.io/tlsMode": "istio"}
    metadata["labels"] = {**tls, CANONICAL_NAME: name, CANONICAL_REVISION: revision, **labels}
    native = template == SIDECAR and annotations.get(NATIVE, str(native).lower()) != "false"
    _add_container(spec, _container(name, cluster, router=template == GATEWAY), native=native)
    _add_missing(spec.setdefault("volumes", []), [{"name": ROOT_VOLUME, "configMap": {"name": ROOT_CONFIG_MAP}}])
    first = spec["containers"][0]["name"]
    metadata["annotations"] = {
        "sidecar.istio.io/status": _status(native=native),
        REVISION_LABEL: REVISION,
        "kubectl.kubernetes.io/default-container": first,
        "kubectl.kubernetes.io/default-logs-container": first,
        **annotations,
    }
    return result


def _workload_name(metadata: Object, labels: Mapping[str, str]) -> str:
    generated = metadata.get("generateName", "").rstrip("-")
    owner = generated.removesuffix(f"-{labels.get('pod-template-hash', '')}") if generated else metadata.get("name", "")
    names = (CANONICAL_NAME, "app.kubernetes.io/name", "app")
    return next((labels[name] for name in names if name in labels), owner)


def _status(*, native: bool) -> str:
    init, containers = ([PROXY_CONTAINER], None) if native else (None, [PROXY_CONTAINER])
    added = {"initContainers": init, "containers": containers, "volumes": [ROOT_VOLUME]}
    return json.dumps({**added, "imagePullSecrets": None, "revision": REVISION})


def _container(workload: str, cluster: ClusterTopology, *, router: bool) -> Object:
    """Return the proxy's container, of a sidecar or of a gateway (``router``)."""
    role = "router" if router else "sidecar"
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "INSTANCE_IP": "status.podIP"}
    values = {
        "ISTIO_META_CLUSTER_ID": cluster.name,
        "ISTIO_META_NETWORK": cluster.network,
        "ISTIO_META_WORKLOAD_NAME": workload,
        "TRUST_DOMAIN": TRUST_DOMAIN,
    }
    return {
        "name": PROXY_CONTAINER,
        "image": IMAGE,
        "args": ["proxy", role, "--domain", "$(POD_NAMESPACE).svc.cluster.local", "--proxyLogLevel=warning"],
        "env": [
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
            *({"name": name, "value": value} for name, value in values.items()),
        ],
        "ports": [{"name": "http-envoy-prom", "containerPort": PROXY_METRICS_PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": PROXY_HEALTH_PORT},
            "periodSeconds": PROBE_PERIOD_S,
            "timeoutSeconds": 3,
            "failureThreshold": 30,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
            "runAsUser": 1337,
        },
        "volumeMounts": [{"name": ROOT_VOLUME, "mountPath": "/var/run/secrets/istio"}],
    }


def _add_container(spec: Object, template: Object, *, native: bool) -> None:
    """Add the proxy, or complete the pod's own container of that name: what the pod says itself counts."""
    init = spec.get("initContainers") or []
    for containers in (spec["containers"], init):
        for position, own in enumerate(containers):
            if own["name"] == template["name"]:
                stated = {key: value for key, value in own.items() if (key, value) != ("image", UNINJECTED)}
                containers[position] = _merged(template, stated)
                return
    if native:
        startup = {**template["readinessProbe"], "periodSeconds": 1, "failureThreshold": STARTUP_FAILURES}
        spec["initContainers"] = [{**template, "restartPolicy": "Always", "startupProbe": startup}, *init]
    else:
        spec["containers"].append(template)


def _merged(template: Object, own: Object) -> Object:
    result = dict(template)
    for key, value in own.items():
        if key in LIST_KEYS and isinstance(value, list):
            result[key] = list(value)
            _add_missing(result[key], template.get(key, []), LIST_KEYS[key])
        elif isinstance(value, dict) and isinstance(template.get(key), dict) and key != "readinessProbe":
            result[key] = _merged(template[key], value)
        else:
            result[key] = value
    return result


def _add_missing(members: list[Object], more: list[Object], key: str = "name") -> None:
    known = {member.get(key) for member in members}
    members += [copy.deepcopy(one) for one in more if one.get(key) not in known]
