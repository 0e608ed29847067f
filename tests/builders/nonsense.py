"""Generated requests to an API server: objects that are almost right, patches that are not, and bytes that are nothing.

``throw`` draws them from the hypothesis strategy ``requests``; ``Wire`` sends what no HTTP client would let through.
"""

from __future__ import annotations

import asyncio
import copy
import json
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

Json = dict[str, Any]
BATCH = 50
"""Requests between which all objects are made again that are gone."""

_OBJECTS: dict[str, Json] = yaml.safe_load("""
/api/v1 configmaps ConfigMap: {data: {k: v}, binaryData: {b: AA==}}
/api/v1 pods Pod:
  spec: &pod
    nodeName: node
    terminationGracePeriodSeconds: 30
    tolerations: [{key: a, tolerationSeconds: 5}]
    containers:
      - name: app
        image: a
        command: [sleep]
        env: [{name: A, value: b}, {name: B, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{containerPort: 80, name: http}]
        readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: a, value: b}]}, periodSeconds: 5}
        livenessProbe: {exec: {command: ["true"]}}
        resources: {limits: {cpu: "1"}}
        volumeMounts: [{name: v, mountPath: /v}]
    volumes: [{name: v, configMap: {name: c}}]
  status:
    phase: Running
    podIP: 127.0.0.9
    conditions: [&ready {type: Ready, status: "True", lastTransitionTime: "2024-01-01T00:00:00Z"}]
/api/v1 secrets Secret: {data: {k: AA==}, stringData: {s: t}, type: Opaque}
/api/v1 services Service:
  spec: {selector: {app: x}, type: NodePort, ports: [{port: 80, name: http, targetPort: http, nodePort: 30080}]}
/api/v1 endpoints Endpoints: {subsets: [{addresses: [{ip: 127.0.0.9}], ports: [{port: 80}]}]}
/api/v1 events Event: {involvedObject: {namespace: default, name: x}, count: 1, source: {}}
/apis/apps/v1 deployments Deployment:
  spec:
    replicas: 1
    selector: {matchLabels: {app: x}, matchExpressions: [{key: app, operator: In, values: [x]}]}
    strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}}
    template: {metadata: {labels: {app: x}}, spec: *pod}
  status: {replicas: 1, conditions: [*ready]}
/apis/autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler:
  spec:
    scaleTargetRef: {kind: Deployment, name: x, apiVersion: apps/v1}
    maxReplicas: 3
    metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}]
/apis/policy/v1 poddisruptionbudgets PodDisruptionBudget:
  spec: {maxUnavailable: 10%, selector: {matchLabels: {app: x}}}
/apis/discovery.k8s.io/v1 endpointslices EndpointSlice:
  addressType: IPv4
  endpoints: [{addresses: [127.0.0.9], conditions: {ready: true}}]
  ports: [{port: 80, name: http}]
/apis/coordination.k8s.io/v1 leases Lease:
  spec: {leaseDurationSeconds: 5, renewTime: "2024-01-01T00:00:00.000000Z"}
/apis/networking.istio.io/v1beta1 destinationrules DestinationRule:
  spec: {host: x, subsets: [{name: a, labels: {app: x}}], trafficPolicy: {outlierDetection: {}}}
/apis/networking.istio.io/v1beta1 virtualservices VirtualService:
  spec:
    hosts: [x]
    http: [{match: [{uri: {exact: /a}}], route: [{destination: {host: x, port: {number: 80}}}]}]
/apis/networking.gke.io/v1 multiclusteringresses MultiClusterIngress:
  spec: {template: {spec: {backend: {serviceName: x, servicePort: 80}}}}
""")
"""By "API, plural, kind": what an object of the kind has besides its metadata."""

_OTHER_PATHS = (
    *("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
    *("/", "//", "/api", "/apis/nonsense/v1", "/openapi/v3/api/v1", "/api/v1/namespaces", "/api/v1/namespaces/default"),
    *("/api/v1/namespaces/%FF/pods", "/api/v1/namespaces/default/pods/..%2F..", "/api/v1/pods/x/y/z"),
    *("/api/v1/nodes/x", "/api/v1/namespaces/default/pods/x/exec?command=ls&stdout=1"),
    "/api/v1/namespaces/default/pods/x/log?tailLines=x",
)
_VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, -(2**63) - 1, 10**30, 1.5, -0.0, 1e300, "", "x", "x%", "-1%", "²", "\ud800", "a\nb"),
    *("\x00", "../../x", "9" * 400, "9999-12-31T23:59:59-23:59", "k8s\x00", [], {}, [5], [None], [[]], [{}], {"": 5}),
    *({"a": {}}, {"$patch": "x"}, {"$patch": "delete"}, {"$retainKeys": 5}, {"f:a": [1]}, {"name": ["x"]}),
    "x" * 20_000,
)
_SPECIAL = (
    *(b"", b"null", b"[" * 5000, b'{"a":' * 3000, b"- " * 3000, b"\xff\xfe{}", b"{}x", b"NaN", b"1e400", b"? [a]\n: b"),
    *(b'{"data":{"k":NaN}}', b'{"data":{"k":"\xff"}}', b"a: &a [*a]", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]"),
    *(b"!!python/name:os.system", b"k8s\0\xff", b"k8s\0\x0a\x02\x0a\x00\x12" + b"\xff" * 40),
    b"x" * (3 * 1024 * 1024 + 1),
)
_QUERIES = (
    *("dryRun=All", "fieldManager=a", "fieldManager=" + "a" * 200, "force=true", "fieldValidation=Strict", "watch=1"),
    *("timeoutSeconds=x", "timeoutSeconds=-1", "limit=99999999999999999999", "resourceVersion=-1", "continue=x"),
    *("resourceVersion=99999999999999999999999", "labelSelector=a+in+(", "fieldSelector=%FF", "gracePeriodSeconds=x"),
    *("resourceVersionMatch=x", "propagationPolicy=x", "fieldManager=%00", "allowWatchBookmarks=x", "pretty=x"),
)
_HEADERS = (
    *(b"User-Agent: \xff\xfe", b"Accept: text/csv", b"Accept: application/json;as=Table;v=v1;g=meta.k8s.io"),
    *(b"Accept: application/yaml", b"Impersonate-User: \xc3\x28", b"User-Agent: " + b"a" * 4000, b"User-Agent: "),
    *(b"Upgrade: websocket", b"Accept: ;;;,", b"X: \x01", b"Expect: nothing", b"Content-Encoding: x"),
)
_TYPES = ("json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml", "json", "yaml")
_TYPES += ("json", "json", "json", "vnd.kubernetes.protobuf", "nonsense")

_json = st.recursive(
    st.sampled_from(_VALUES[:24]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "spec", "metadata", "$x")), inner)
    ),
    max_leaves=6,
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Request:
    method: str
    path: str
    media_type: str
    headers: tuple[bytes, ...] = ()
    body: bytes | None = None
    cut: int = 0
    """Bytes of the body that do not come."""

    def __repr__(self) -> str:
        body = (self.body or b"")[:200]
        return f"{self.method} {self.path} {self.media_type} {self.headers} {body!r} ({self.cut} not sent)"

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """Say it as briefly to hypothesis, which would print bodies of megabytes."""
        printer.text(repr(self))

    def text(self, token: str) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}"]
        lines += [f"Content-Type: application/{self.media_type}"]
        lines += [f"Content-Length: {len(self.body)}"] if self.body is not None else []
        body = self.body or b""
        return (
            b"\r\n".join([*(line.encode() for line in lines), *self.headers])
            + b"\r\n\r\n"
            + body[: len(body) - self.cut]
        )


def objects() -> dict[str, Json]:
    """Return path of the collection → a valid object of each kind."""
    found = {}
    for key, body in _OBJECTS.items():
        root, plural, kind = key.split()
        head = {"apiVersion": root.removeprefix("/apis/").removeprefix("/api/"), "kind": kind, "metadata": _metadata()}
        found[f"{root}/namespaces/default/{plural}"] = copy.deepcopy(head | body)
    return found


def creation(path: str, name: str = "x") -> Request:
    """Return the request that creates a valid object in the collection at ``path``."""
    body = objects()[path] | {"metadata": {"name": name}}
    return Request(method="POST", path=path, media_type="json", body=json.dumps(body).encode())


def throw(count: int, batch_at: Callable[[list[Request]], None]) -> None:
    """Call ``batch_at`` with so many requests, a batch at a time: the same in every run."""

    @settings(
        max_examples=count // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests(), min_size=BATCH, max_size=BATCH))
    def generated(batch: list[Request]) -> None:
        batch_at(batch)

    generated()


def _metadata() -> Json:
    managed = {"manager": "a", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u"}
    return {
        "name": "x",
        "labels": {"app": "x"},
        "annotations": {"a": "b"},
        "finalizers": ["a.b/c"],
        "managedFields": [managed],
        "ownerReferences": [owner],
    }


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    members: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from _places(member, (*path, name))


_PLACES = {path: tuple(_places(obj)) for path, obj in objects().items()}


@st.composite
def _mutated(draw: st.DrawFn, path: str) -> Json:
    """An object of which one or two fields hold what they should not, or are missing."""
    obj = copy.deepcopy(objects()[path])
    for _ in range(draw(st.integers(1, 2))):
        *parents, last = draw(st.sampled_from(_PLACES[path]))
        value = draw(st.sampled_from(_VALUES) | _json)
        parent: Any = obj
        try:
            for step in parents:
                parent = parent[step]
            parent[last] = value
        except (IndexError, KeyError, TypeError):
            continue  # an earlier change took it away
    return obj


@st.composite
def _body(draw: st.DrawFn, path: str, media_type: str) -> bytes:
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(_SPECIAL))
    if kind == 1 or path not in _PLACES:
        return json.dumps(draw(_json)).encode()
    if kind == 2:
        text = json.dumps(objects()[path]).encode()
        at = draw(st.integers(0, len(text) - 1))
        return text[:at] + draw(st.binary(max_size=3)) + text[at + 1 :]
    if media_type == "json-patch+json":
        return json.dumps(draw(st.lists(_operation(path), max_size=3))).encode()
    return json.dumps(draw(_mutated(path))).encode()


@st.composite
def _operation(draw: st.DrawFn, path: str) -> Any:
    pointer = "".join(f"/{step}" for step in draw(st.sampled_from(((), *_PLACES[path]))))
    other = "".join(f"/{step}" for step in draw(st.sampled_from(((), *_PLACES[path]))))
    op = draw(st.sampled_from(("add", "remove", "replace", "move", "copy", "test", "x", 5)))
    return {"op": op, "path": pointer, "from": other, "value": draw(st.sampled_from(_VALUES) | _json)}


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """One request, nonsense in some way, of a method that suits its path in most cases."""
    collection = draw(st.sampled_from((*_PLACES, "")))
    path, method = collection or draw(st.sampled_from(_OTHER_PATHS)), "POST"
    if draw(st.integers(0, 2)) and collection:
        path += "/x" + draw(
            st.sampled_from(("", "", "", "", "/status", "/scale", "/binding", "/nonsense", "/exec", "/log"))
        )
        method = draw(st.sampled_from((*("PATCH",) * 6, *("PUT",) * 4, "GET", "DELETE")))
    method = method if draw(st.integers(0, 9)) else draw(st.sampled_from(("GET", "HEAD", "OPTIONS", "DELETE", "PATCH")))
    types = _TYPES[:4] if method == "PATCH" and draw(st.integers(0, 9)) else _TYPES[4:]
    media_type = draw(st.sampled_from(types))
    if query := draw(st.lists(st.sampled_from(_QUERIES), max_size=2)):
        path += ("&" if "?" in path else "?") + "&".join(query)
    body = None if method in ("GET", "HEAD") else draw(_body(collection, media_type))
    cut = 1 if body and not draw(st.integers(0, 99)) else 0
    headers = tuple(draw(st.lists(st.sampled_from(_HEADERS), max_size=1))) if not draw(st.integers(0, 4)) else ()
    return Request(method=method, path=path, media_type=media_type, headers=headers, body=body, cut=cut)


class Wire:
    """A connection to a server that carries any bytes."""

    def __init__(self, host: str, port: int, trust: ssl.SSLContext, token: str) -> None:
        self._where, self._trust, self._token = (host, port), trust, token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: Request) -> tuple[int, bytes]:
        """Return code and body of the answer; 0 where the server has closed without one, as for half a request."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._where, ssl=self._trust)
        reader, writer = self._streams
        try:
            async with asyncio.timeout(10):
                writer.write(request.text(self._token))
                if request.cut:
                    return 0, b""
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = [line.split(":")[1] for line in head.splitlines() if line.startswith("content-length:")]
                body = await reader.readexactly(int(length[0])) if length and request.method != "HEAD" else b""
                code = int(head.split()[1])
                if not length or "connection: close" in head or request.method == "HEAD":
                    await self.close()
                return code, body
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            return 0, b""
        finally:
            if request.cut:
                await self.close()

    async def close(self) -> None:
        if self._streams:
            self._streams[1].transport.abort()
            self._streams = None
