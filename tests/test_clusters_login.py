"""Logins: plugins that are slow, fail, ask or are not there; credentials that end; what a server repeats of one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from waits import until

from meshbook.clusters import Cluster, Fleet, Kubeconfig, gather
from meshbook.errors import ClusterError, UsageError
from meshbook.settings import Patience

QUICK = Patience(connect_s=2, read_s=2, attempts=1, pause_s=0.01, login_s=5, login_apart_s=0.1)
VERSION = "client.authentication.k8s.io/v1"

PLUGIN = """#!{python} -SE
import os, sys, time
from datetime import datetime, timedelta, timezone
folder = os.path.dirname(os.path.abspath(__file__))
with open(folder + "/calls", "a") as calls:
    calls.write(os.environ["KUBERNETES_EXEC_INFO"] + "\\n")
number = len(open(folder + "/calls").readlines())
if os.path.exists(folder + "/broken"):
    sys.exit("the identity provider is away")
time.sleep({takes_s})
while number > 1 and os.path.exists(folder + "/slow"):
    time.sleep(0.01)
end = (datetime.now(timezone.utc) + timedelta(seconds={lasts_s})).isoformat()
status = '"token": "token-number-%d", "expirationTimestamp": "%s"' % (number, end)
print('{{"apiVersion": "{version}", "kind": "ExecCredential", "status": {{' + status + '}}}}')
"""

Plugged = Callable[..., Kubeconfig]


@pytest.fixture
def plugged(scripted: Any, tmp_path: Path) -> Plugged:
    """Return a writer of a kubeconfig whose user logs in by a plugin, ``plugin`` beside it."""

    def write(program: str, **more: Any) -> Kubeconfig:
        (tmp_path / "plugin").write_text(program)
        (tmp_path / "plugin").chmod(0o700)
        extensions = [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}]
        cluster = {"server": scripted.url, "extensions": extensions}
        called = {"apiVersion": VERSION, "command": "./plugin", "interactiveMode": "Never", **more}
        document = {
            "clusters": [{"name": "c1", "cluster": cluster}],
            "users": [{"name": "c1", "user": {"exec": called}}],
            "contexts": [{"name": "c1", "context": {"cluster": "c1", "user": "c1"}}],
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(document))
        return Kubeconfig(str(tmp_path / "kubeconfig"))

    return write


def _plugin(*, takes_s: float = 0.0, lasts_s: float = 240.0) -> str:
    return PLUGIN.format(python=sys.executable, takes_s=takes_s, lasts_s=lasts_s, version=VERSION)


def _calls(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "calls").read_text().splitlines()]


def test_a_process_calls_a_plugin_once_for_all_requests_of_a_token(plugged: Plugged, tmp_path: Path) -> None:
    read = plugged(_plugin(takes_s=0.1))
    clusters = [Cluster(read, "c1", QUICK) for _ in range(3)]
    gather({str(number): clusters[number % 3].version for number in range(9)})
    assert len(_calls(tmp_path)) == 1


def test_a_plugin_is_told_of_the_cluster_where_it_asks_for_that(
    plugged: Plugged, scripted: Any, tmp_path: Path
) -> None:
    Cluster(plugged(_plugin(), provideClusterInfo=True), "c1", QUICK).version()
    spec = {"interactive": False, "cluster": {"server": scripted.url, "config": {"audience": "a"}}}
    assert _calls(tmp_path) == [{"apiVersion": VERSION, "kind": "ExecCredential", "spec": spec}]
    assert scripted.headers["Authorization"] == "Bearer token-number-1"


def test_a_token_is_replaced_ahead_of_its_end_and_no_request_waits_for_that(
    plugged: Plugged, scripted: Any, tmp_path: Path
) -> None:
    cluster = Cluster(plugged(_plugin(lasts_s=1.6)), "c1", QUICK)
    cluster.version()
    (tmp_path / "slow").touch()
    until(lambda: cluster.version() and len(_calls(tmp_path)) == 2)
    cluster.version()  # while the plugin runs
    assert scripted.headers["Authorization"] == "Bearer token-number-1"
    (tmp_path / "slow").unlink()
    until(lambda: cluster.version() and scripted.headers["Authorization"] == "Bearer token-number-2")


def test_a_plugin_that_fails_is_not_missed_until_what_it_gave_has_ended(plugged: Plugged, tmp_path: Path) -> None:
    cluster = Cluster(plugged(_plugin(lasts_s=1)), "c1", QUICK)
    cluster.version()
    (tmp_path / "broken").touch()
    until(lambda: cluster.version() and len(_calls(tmp_path)) == 2)
    with pytest.raises(ClusterError, match="the identity provider is away"):  # no mistake of the user's: it did work
        until(lambda: not cluster.version())
    (tmp_path / "broken").unlink()
    time.sleep(QUICK.login_apart_s)
    assert cluster.version() == "v1.33.1"


def test_a_token_that_is_refused_is_replaced_at_once(plugged: Plugged, scripted: Any, tmp_path: Path) -> None:
    async def second_alone(request: web.Request) -> web.Response:
        fits = request.headers["Authorization"].endswith("-2")
        return web.json_response({"gitVersion": "v1", "message": "who?"}, status=200 if fits else 401)

    scripted.script["GET /version"] = [second_alone]
    assert Cluster(plugged(_plugin()), "c1", QUICK).version() == "v1"
    assert len(_calls(tmp_path)) == 2


def test_a_token_in_a_file_is_read_again_when_it_is_refused(scripted: Any, tmp_path: Path, kubeconfig: Any) -> None:
    document = json.loads(Path(kubeconfig({"c1": scripted.url})).read_text())
    document["users"][0]["user"] = {"tokenFile": "token"}
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    (tmp_path / "token").write_text("first\n")

    async def version(request: web.Request) -> web.Response:
        fits = request.headers["Authorization"] == f"Bearer {(tmp_path / 'token').read_text().strip()}"
        return web.json_response({"gitVersion": "v1"}, status=200 if fits else 401)

    scripted.script["GET /version"] = [version]
    cluster = Cluster(Kubeconfig(str(tmp_path / "kubeconfig")), "c1", QUICK)
    assert cluster.version() == "v1"
    (tmp_path / "token").write_text("second\n")
    assert cluster.version() == "v1"


@pytest.mark.parametrize(
    ("program", "more", "message"),
    [
        pytest.param(
            "#!/bin/sh\necho no such realm >&2; exit 3", {}, r"exit code 3\n  said: no such realm", id="fails"
        ),
        pytest.param(
            "", {"command": "no-plugin", "installHint": "get it"}, r"cannot be started[\s\S]*get it", id="none"
        ),
        pytest.param("#!/bin/sh\necho Password: >&2; read x", {}, r"code 1\n  said: Password:", id="asks"),
        pytest.param("#!/bin/sh\necho go to the browser >&2; sleep 60", {}, r"within 0.3 s\n  said: go to", id="hangs"),
        pytest.param("#!/bin/sh\necho secret-thing", {}, "did not print an ExecCredential", id="no JSON"),
        pytest.param('#!/bin/sh\necho \'{"apiVersion": "x", "status": {}}\'', {}, "answered as x", id="version"),
        pytest.param(_plugin().replace(".isoformat()", ".isoformat()[:19]"), {}, "has no time zone", id="no zone"),
        pytest.param("", {"interactiveMode": "Always"}, "asks at a terminal", id="needs a terminal"),
        pytest.param("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "needs apiVersion", id="v1alpha1"),
        pytest.param("", {"shell": True}, "key 'shell', which is not supported", id="unknown key"),
    ],
)
def test_a_plugin_that_gives_no_login_is_told_in_its_own_words_before_anything_is_asked(
    plugged: Plugged, scripted: Any, program: str, more: dict[str, Any], message: str
) -> None:
    plugged(program, **more)
    with pytest.raises(UsageError, match=message) as caught:
        Fleet.connect(["c1"], plugged(program, **more).path, patience=Patience(login_s=0.3))
    assert scripted.asked == []
    assert "secret-thing" not in str(caught.value)


def test_what_a_server_repeats_of_a_login_is_not_told(plugged: Plugged, scripted: Any) -> None:
    async def repeat(request: web.Request) -> web.Response:
        return web.json_response({"message": f"who is {request.headers['Authorization']}?"}, status=403)

    scripted.script |= {"GET /version": [repeat], "GET /api/v1/namespaces/sample/pods/p/exec": [repeat]}
    cluster = Cluster(plugged(_plugin()), "c1", QUICK)
    for ask in (cluster.version, lambda: cluster.exec("p", "true", namespace="sample")):
        with pytest.raises(ClusterError, match=r"who is Bearer \[login\]\?"):
            ask()
