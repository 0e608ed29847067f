"""Shared by all tests: no test can reach a cluster, a cloud or a proxy of the machine that it runs on."""

from __future__ import annotations

import json
import os
import ssl
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import labs
import pytest
from aiohttp import web
from api_servers import api_servers
from background import Background
from multidict import CIMultiDictProxy
from readers import left_in_english

from meshbook.clusters import Fleet
from meshbook.lab import launch, realapiserver
from meshbook.lab.loopback import claim_block, lowest_port
from meshbook.lab.topology import LabTopology, two_clouds
from meshbook.notebook import without_slow_imports
from meshbook.settings import Patience
from meshbook.verdict import Verdict

without_slow_imports()
os.environ["PATH"] += f"{os.pathsep}{sysconfig.get_path('scripts')}"  # where the wheel of kubectl puts it
_REMOVED = ("KUBECONFIG", "CTX_", "MESHBOOK_", "CLOUDSDK_", "GOOGLE_")
_REMOVED += ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(scope="session")
def _figure_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep matplotlib's font cache for the session: it would be made anew for every empty HOME."""
    return tmp_path_factory.mktemp("matplotlib")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--contexts", default="", help="two contexts, a,b: run tests/contract on these clusters")
    parser.addoption("--apiserver", default=labs.apiserver, choices=launch.APISERVERS, help="of labs that tests share")
    parser.addoption("--nonsense", type=int, default=2_000, help="how many generated requests an API server bears")


def pytest_configure(config: pytest.Config) -> None:
    labs.apiserver = config.getoption("apiserver")
    if labs.apiserver == "real":  # found now, while HOME is the user's own
        os.environ[realapiserver.ASSETS] = str(Path(realapiserver.find(os.environ).apiserver).parent)
    config.addinivalue_line("markers", "mesh: needs a mesh over both clusters; skipped where there is none")


@pytest.fixture(autouse=True)
def no_real_cluster(cleared_environment: None) -> None:
    """See to it that no test reaches a real cluster by accident (``contract`` alone can be told to reach two)."""


@pytest.fixture(autouse=True)
def verdicts_are_said_in_japanese_too(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which meshbook judges in words that have no Japanese (``language``)."""
    texts: set[str] = set()
    made = Verdict.__init__

    def make(self: Verdict, **given: Any) -> None:
        made(self, **given)
        makers = [sys._getframe(depth).f_globals["__name__"].partition(".")[0] for depth in (1, 2)]
        if "meshbook" in makers:
            texts.update((self.claim, self.reason))

    monkeypatch.setattr(Verdict, "__init__", make)
    yield
    english = left_in_english(texts)
    assert not english, "words without Japanese: meshbook/language/ja*.yaml is their place"


@pytest.fixture
def cleared_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, _figure_cache: Path) -> None:
    """Clear what leads to real clusters, clouds and proxies; HOME is an empty folder."""
    for name in os.environ:
        if name.upper().startswith(_REMOVED):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("MPLCONFIGDIR", str(_figure_cache))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test keeps its notebooks; it makes the folder itself."""
    return tmp_path / "notebooks"


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def background() -> Iterator[Background]:
    loop = Background()
    yield loop
    loop.close()


class ScriptedApi:
    """An HTTP server that answers as a test tells it to: what a cluster does on its bad days.

    ``script`` maps "METHOD path" to the answers to give one after the other (the last one for ever): a JSON object, a
    pair (status, JSON object), or a handler. ``asked`` keeps "METHOD path?query" of each request, ``headers`` the
    headers of the last one.
    """

    def __init__(self) -> None:
        self.script: dict[str, list[Any]] = {"GET /api/v1": [RESOURCES_V1], "GET /version": [{"gitVersion": "v1.33.1"}]}
        self.asked: list[str] = []
        self.headers: CIMultiDictProxy[str] | None = None
        self.url = ""

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = self._runner.addresses[0]
        self.url = f"{'https' if tls else 'http'}://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        self.headers = request.headers
        answers = self.script.get(f"{request.method} {request.path}")
        if not answers:
            return web.json_response({"kind": "Status", "message": "not scripted", "reason": "NotFound"}, status=404)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if callable(answer):
            scripted: Answer = answer
            return await scripted(request)
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return web.json_response(body, status=status)


RESOURCES_V1 = {
    "resources": [
        {"name": "namespaces", "kind": "Namespace", "namespaced": False},
        {"name": "pods", "kind": "Pod", "namespaced": True},
        {"name": "pods/exec", "kind": "PodExecOptions", "namespaced": True},
        {"name": "configmaps", "kind": "ConfigMap", "namespaced": True},
        {"name": "events", "kind": "Event", "namespaced": True},
    ]
}


@pytest.fixture
def scripted(background: Background) -> Iterator[ScriptedApi]:
    api = ScriptedApi()
    background.run(api.start())
    yield api
    background.run(api.stop())


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[..., str]:
    """Return a writer of kubeconfigs: contexts by name, each with its server's URL and its own extensions."""

    def write(servers: Mapping[str, str], **extensions: Any) -> str:
        entries = [{"name": name, "extension": value} for name, value in extensions.items()]
        document = {
            "clusters": [
                {"name": name, "cluster": {"server": url, "extensions": entries}} for name, url in servers.items()
            ],
            "users": [{"name": name, "user": {"token": f"token-of-{name}"}} for name in servers],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in servers],
        }
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(document))
        return str(path)

    return write


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[launch.LabState]:
    """One lab for all tests that do not break it for good: what they break they mend, what they need they apply."""
    with labs.flawless_lab() as lab:
        yield lab


@pytest.fixture
def topology(tmp_path: Path) -> Iterator[LabTopology]:
    """A lab's folder, and its addresses on a block that nobody else has."""
    block, claim = claim_block()
    with claim:
        yield two_clouds(tmp_path, block, lowest_port(block))


@pytest.fixture
def bare_fleet(background: Background, topology: LabTopology) -> Iterator[Fleet]:
    """Two of the lab's API servers over TLS with nothing behind them: no controller, no node."""
    servers = api_servers(topology)
    background.run(servers.__aenter__())
    patience = Patience(
        poll_s=0.01, slowest_poll_s=0.05, pause_s=0.01, absent_s=0.2, stuck_s=0.2, lease_s=1, rollback_s=1
    )
    fleet = Fleet.connect([], topology.kubeconfig, patience=patience)
    yield fleet
    fleet.close()
    background.run(servers.__aexit__(None, None, None))
