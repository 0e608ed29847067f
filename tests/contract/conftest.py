"""Two clusters to ask: those of ``--contexts a,b`` in the user's kubeconfig, else a lab that is started for this suite.

Everything is made in one namespace per cluster, of a generated name, and goes with it.
"""

from __future__ import annotations

import json
import os
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import websocket
from kubernetes import config
from waits import until

Json = dict[str, Any]

PATIENCE_S = 120
"""For what a cluster does in its own time: pulling an image, starting a pod."""
IMAGE = "docker.io/curlimages/curl:8.11.1"
POD = "contract"
SCRIPT = "echo first; echo second >&2; echo third; exec sleep 1000000"


@pytest.fixture(autouse=True)
def no_real_cluster(request: pytest.FixtureRequest) -> None:
    """Keep the environment where ``--contexts`` was given; clear it as everywhere else where not."""
    if not request.config.getoption("contexts"):
        request.getfixturevalue("cleared_environment")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, as it came."""

    code: int
    headers: Any
    text: str

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError:
            return None


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command left: its outputs, the ``Status`` of its end, and the protocol that was spoken."""

    stdout: str = ""
    stderr: str = ""
    status: Json = field(default_factory=dict)
    protocol: str = ""

    @property
    def exit_code(self) -> int:
        causes = self.status.get("details", {}).get("causes", [])
        codes = [cause["message"] for cause in causes if cause["reason"] == "ExitCode"]
        return int(codes[0]) if codes else 0 if self.status.get("status") == "Success" else -1


class Api:
    """One API server, spoken to over plain HTTP with a context's own credentials."""

    def __init__(self, kubeconfig: str | None, context: str) -> None:
        self.context = context
        self.client = config.new_client_from_config(kubeconfig, context)
        self._pool = self.client.rest_client.pool_manager
        self._host = self.client.configuration.host
        self.namespace = ""

    def close(self) -> None:
        pools = [self._pool.pools[key] for key in self._pool.pools.keys()]  # noqa: SIM118 - it cannot be iterated
        self.client.close()
        for pool in pools:
            pool.close()

    @property
    def core(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    @property
    def apps(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}"

    def _headers(self) -> dict[str, str]:
        settings = self.client.configuration.auth_settings().values()
        token = next((one["value"] for one in settings if one["in"] == "header"), None)
        return {"User-Agent": "contract/1"} | ({"Authorization": token} if token else {})

    def open(self, method: str, path: str, *, body: bytes | None = None, headers: Json | None = None) -> Any:
        """Send a request and return the response with its body unread; the caller releases it."""
        return self._pool.request(
            method,
            self._host + path,
            body=body,
            headers=self._headers() | (headers or {}),
            preload_content=False,
            retries=False,
            timeout=PATIENCE_S,
        )

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request, with ``body`` as JSON unless it is text, and return the whole answer."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, str | None) else json.dumps(body)
        if data is not None:
            given.setdefault("Content-Type", "application/json")
        response = self.open(method, path, body=data.encode() if data is not None else None, headers=given)
        try:
            return Answer(code=response.status, headers=response.headers, text=response.read().decode())
        finally:
            response.release_conn()

    def get(self, path: str) -> Json:
        """Return an object that must be there."""
        answer = self.ask("GET", path)
        assert answer.code == 200, f"{self.context}: GET {path}: {answer.text}"
        found: Json = answer.json
        return found

    def make(self, path: str, obj: Json) -> Json:
        """Create an object that nothing must stand against."""
        answer = self.ask("POST", path, obj)
        assert answer.code == 201, f"{self.context}: POST {path}: {answer.text}"
        made: Json = answer.json
        return made

    def events(self, path: str) -> Iterator[Json]:
        """Yield the events of a watch until the server ends it."""
        response = self.open("GET", path)
        try:
            assert response.status == 200, response.read().decode()
            rest = b""
            for chunk in response.stream(amt=None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
        finally:
            response.close()
            response.release_conn()

    def run(self, pod: str, *command: str, stdin: str | None = None, protocols: tuple[str, ...]) -> Ran:
        """Run a command in a pod over a WebSocket and wait for its end."""
        query = [("command", part) for part in command] + [("stdout", "true"), ("stderr", "true")]
        query += [("stdin", "true")] if stdin is not None else []
        url = f"{self._host.replace('http', 'ws', 1)}{self.core}/pods/{pod}/exec?{urllib.parse.urlencode(query)}"
        socket = self._connected(url, protocols)
        try:
            if stdin is not None:
                socket.send_binary(b"\x00" + stdin.encode())
                if socket.subprotocol == "v5.channel.k8s.io":
                    socket.send_binary(b"\xff\x00")
            return _outcome(socket)
        finally:
            socket.close()
            socket.shutdown()  # after the server's close frame, close() alone leaves the connection open

    def _connected(self, url: str, protocols: tuple[str, ...]) -> Any:
        settings = self.client.configuration
        options = {"cert_reqs": ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE}
        options |= {"ca_certs": settings.ssl_ca_cert, "certfile": settings.cert_file, "keyfile": settings.key_file}
        header = [f"{name}: {value}" for name, value in self._headers().items()]
        chosen = {name: value for name, value in options.items() if value is not None}
        return websocket.create_connection(
            url, timeout=PATIENCE_S, subprotocols=list(protocols), header=header, sslopt=chosen
        )


def _outcome(socket: Any) -> Ran:
    """Read a command's channels until the server closes them."""
    outputs = {1: b"", 2: b"", 3: b""}
    while True:
        code, data = socket.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            break
        if data:
            outputs[data[0]] += data[1:]
    status = json.loads(outputs[3] or b"{}")
    return Ran(stdout=outputs[1].decode(), stderr=outputs[2].decode(), status=status, protocol=socket.subprotocol or "")


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """Where the two contexts are found; ``kubeconfig`` None means as kubectl finds it."""

    kubeconfig: str | None
    contexts: tuple[str, ...]


@pytest.fixture(scope="session")
def clusters(request: pytest.FixtureRequest) -> Iterator[Clusters]:
    named = request.config.getoption("contexts")
    if named:
        contexts = tuple(named.split(","))
        assert len(contexts) == 2, "--contexts takes two names"
        yield Clusters(kubeconfig=os.environ.get("KUBECONFIG") or None, contexts=contexts)
        return
    lab = request.getfixturevalue("shared_lab")
    yield Clusters(kubeconfig=str(lab.kubeconfig), contexts=lab.contexts)


@pytest.fixture(scope="session")
def apis(clusters: Clusters) -> Iterator[dict[str, Api]]:
    """Return both API servers, each with a namespace of its own in which a pod starts."""
    found = {name: Api(clusters.kubeconfig, name) for name in clusters.contexts}
    try:
        for api in found.values():
            _furnish(api)
        yield found
    finally:
        for api in found.values():
            _tidy_up(api)
            api.close()


def _furnish(api: Api) -> None:
    api.namespace = api.make("/api/v1/namespaces", {"metadata": {"generateName": "contract-"}})["metadata"]["name"]
    main = {"name": "main", "image": IMAGE, "command": ["/bin/sh", "-c", SCRIPT]}
    spec = {"containers": [main], "terminationGracePeriodSeconds": 1}
    deadline = time.monotonic() + PATIENCE_S
    while api.ask("GET", f"{api.core}/serviceaccounts/default").code == 404 and time.monotonic() < deadline:
        time.sleep(0.05)  # without its account no pod is taken
    api.make(f"{api.core}/pods", {"metadata": {"name": POD, "labels": {"app": POD}}, "spec": spec})


def _tidy_up(api: Api) -> None:
    """Remove what the suite made, also where a test that failed left it: all of it is in, or labelled with, its name.

    Finalizers that are left behind would keep a namespace for ever.
    """
    if not api.namespace:
        return
    selector = f"labelSelector=contract={api.namespace}"
    others = api.get(f"/api/v1/namespaces?{selector}")["items"]
    for namespace in (api.namespace, *(one["metadata"]["name"] for one in others)):
        for item in api.get(f"/api/v1/namespaces/{namespace}/configmaps")["items"]:
            if item["metadata"].get("finalizers"):
                path = f"/api/v1/namespaces/{namespace}/configmaps/{item['metadata']['name']}"
                free = {"metadata": {"finalizers": None}}
                api.ask("PATCH", path, free, Content_Type="application/merge-patch+json")
        api.ask("DELETE", f"/api/v1/namespaces/{namespace}")
    for kind in ("clusterroles", "clusterrolebindings"):
        api.ask("DELETE", f"/apis/rbac.authorization.k8s.io/v1/{kind}?{selector}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask each of two clusters; of a lab, whose API servers are one program, the first alone."""
    if "api" in metafunc.fixturenames:
        both = bool(metafunc.config.getoption("contexts"))
        metafunc.parametrize("api", [0, 1] if both else [0], ids=["first", "second"][: both + 1], indirect=True)


@pytest.fixture
def api(request: pytest.FixtureRequest, apis: dict[str, Api]) -> Api:
    """Return one of the two API servers."""
    return list(apis.values())[request.param]


@pytest.fixture
def pod(api: Api) -> str:
    """Return the name of a pod that runs; it has written three lines, one of them on standard error."""
    until(lambda: _runs(api), PATIENCE_S)
    return POD


def _runs(api: Api) -> bool:
    conditions = api.get(f"{api.core}/pods/{POD}").get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
