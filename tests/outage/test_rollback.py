"""The way back does not give up: refusals, cut connections and silence in its middle only make it longer."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from outage_fleet import NAMESPACE, SYSTEM, intent, interrupted, record, replicas
from troubled_proxy import TROUBLES, TroubledProxy

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import NotRestoredError
from meshbook.settings import Patience

HASTY = Patience(poll_s=0.01, slowest_poll_s=0.05, pause_s=0.01, longest_pause_s=0.1, attempts=1, read_s=0.3, lease_s=1)
LONG = 3600.0


def restores(method: str, path: str, body: bytes) -> bool:
    """Tell the request that restores web from all others."""
    return method == "PATCH" and path.endswith("/web/scale") and json.loads(body)["spec"]["replicas"] > 0


@pytest.fixture
def proxy(background: Any, target: Cluster) -> Iterator[TroubledProxy]:
    proxy = TroubledProxy(target.connection.server)
    background.run(proxy.start())
    yield proxy
    background.run(proxy.stop())


@pytest.fixture
def way(fleet: Fleet, proxy: TroubledProxy, tmp_path: Path) -> Fleet:
    """cluster1 alone, through the proxy."""
    document = json.loads((tmp_path / "kubeconfig").read_text())
    for entry in document["clusters"]:
        entry["cluster"] = {"server": proxy.url} if entry["name"] == "cluster1" else entry["cluster"]
    path = tmp_path / "troubled"
    path.write_text(json.dumps(document))
    return Fleet.named(["cluster1"], path, patience=HASTY)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_trouble_in_the_middle_of_the_way_back_is_outlasted(
    way: Fleet, target: Cluster, proxy: TroubledProxy, trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with outage.outage(intent(way, survivors=())) as ended:
        proxy.plan(trouble, 0.4, restores)
    assert proxy.troubled
    assert (replicas(target), record(target)) == (2, {})
    assert ended.restore_accepted is not None
    assert "cluster1: Deployment web in sample: " in capsys.readouterr().err


def test_a_name_that_does_not_resolve_for_a_while_is_told_and_outlasted(
    target: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((tmp_path / "kubeconfig").read_text())
    host, looked = urlsplit(target.connection.server).hostname or "", list[str]()
    for entry in document["clusters"]:
        entry["cluster"]["tls-server-name"] = host
        entry["cluster"]["server"] = entry["cluster"]["server"].replace(host, "api.example.test")
    (tmp_path / "named").write_text(json.dumps(document))
    known = socket.getaddrinfo

    def resolve(name: str, *more: Any, **options: Any) -> Any:
        looked.append(name)
        if len(looked) < 4:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return known(host if name == "api.example.test" else name, *more, **options)

    interrupted(intent(Fleet((target,)), survivors=()))
    told: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    named = Fleet.named(["cluster1"], tmp_path / "named", patience=HASTY)
    assert len(outage.restore(named, NAMESPACE, timeout_s=10, tell=told.append)) == 1
    assert any("Failed to resolve 'api.example.test'" in line for line in told)


def test_one_that_is_refused_keeps_no_other_waiting_and_is_told_with_its_commands(
    way: Fleet, target: Cluster, proxy: TroubledProxy, tmp_path: Path
) -> None:
    interrupted(intent(way, survivors=()))
    interrupted(intent(way, "east-west-down", survivors=()))
    proxy.plan("403", LONG, meets=restores)
    told: list[str] = []
    brief = Fleet.named(["cluster1"], tmp_path / "troubled", patience=Patience(**{**vars(HASTY), "rollback_s": 0.3}))
    with pytest.raises(NotRestoredError) as caught:
        outage.restore(brief, timeout_s=0.1, tell=told.append)
    assert told
    assert (replicas(target), replicas(target, "gateway", SYSTEM)) == (0, 1)
    (command,) = caught.value.by_hand.values()
    assert f"--context cluster1 -n {NAMESPACE} scale deployment/web --replicas=2 && kubectl" in command
    assert f"annotate deployment/web {outage.RUN}- " in command
