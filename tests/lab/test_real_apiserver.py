"""A lab runs as well over API servers that are other programs: real ones where they are installed, and a stand-in."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from stages import set_up
from waits import until

from meshbook import probes
from meshbook.errors import LabError
from meshbook.lab import launch
from meshbook.lab import realapiserver as real
from meshbook.lab.apiserver import CUSTOM_KINDS, User
from meshbook.lab.client import ENDPOINT_SLICES, ENDPOINTS, ApiError, Client
from meshbook.lab.controllers import controllers
from meshbook.lab.kubelet import marked
from meshbook.lab.realapiserver import Files, Programs, definition_of, find
from meshbook.lab.topology import reachable, two_clouds
from meshbook.objects import Object

STANDIN = Path(__file__).with_name("standin_apiserver.py")
REAL = {name: os.environ[name] for name in ("KUBEBUILDER_ASSETS", "PATH") if name in os.environ}
CLUSTER, OTHER = two_clouds(Path("/lab"), 64, real_api=True).clusters
PROGRAMS = Programs(apiserver="/bin/kube-apiserver", etcd="/bin/etcd")
FILES = Files(
    folder=Path("/lab/cp"),
    root=Path("/lab/root.pem"),
    etcd=Path("/lab/etcd.pem"),
    server=Path("/lab/server.pem"),
    kubelet_client=Path("/lab/kubelet-client.pem"),
    service_account=Path("/lab/sa.pem"),
)


def _flags(argv: list[str]) -> dict[str, str]:
    return dict(argument.removeprefix("--").split("=", 1) for argument in argv[1:])


def _program(folder: Path, name: str, *, text: str = "") -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text or f'#!/bin/sh\nexec {shlex.join([sys.executable, str(STANDIN), name])} "$@"\n')
    path.chmod(0o755)


def _standins(folder: Path) -> dict[str, str]:
    """Return an environment in which the stand-ins are found."""
    for name in ("kube-apiserver", "etcd"):
        _program(folder / "assets", name)
    return {"KUBEBUILDER_ASSETS": str(folder / "assets"), "PATH": "/usr/bin:/bin"}


@pytest.fixture
def standin(tmp_path: Path) -> dict[str, str]:
    return _standins(tmp_path)


@pytest.fixture(scope="module", params=["standin", "real"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[launch.LabState]:
    """A lab over API servers of either kind, which the last test ends; skips where there are no real ones."""
    folder = tmp_path_factory.mktemp("real")
    environment = _standins(folder) if request.param == "standin" else REAL
    try:
        find(environment)
    except LabError as error:
        pytest.skip(error.message)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield launch.start(folder / "lab", launch.Choice(apiserver="real", fast=True))
        launch.stop(folder / "lab")


def test_programs_of_setup_envtest_come_before_those_on_path(tmp_path: Path) -> None:
    for folder in ("assets", "path"):
        for name in ("kube-apiserver", "etcd"):
            _program(tmp_path / folder, name)
    _program(tmp_path / "path", "kube-scheduler")
    found = find({"KUBEBUILDER_ASSETS": str(tmp_path / "assets"), "PATH": str(tmp_path / "path")})
    assert found.apiserver == str(tmp_path / "assets" / "kube-apiserver")
    assert (found.controller_manager, found.scheduler) == ("", "")
    assert found.own_controllers is None


def test_missing_programs_are_named(tmp_path: Path) -> None:
    _program(tmp_path / "path", "etcd")
    with pytest.raises(LabError, match="needs kube-apiserver, in"):
        find({"PATH": str(tmp_path / "path")})


@pytest.mark.parametrize(
    ("path", "own"), [("", {"scheduler", "loadbalancers"}), ("/s", {"loadbalancers"})], ids=["ours", "theirs"]
)
def test_beside_a_controller_manager_only_what_it_lacks_is_ours(path: str, own: set[str]) -> None:
    programs = Programs(apiserver="/a", etcd="/e", controller_manager="/c", scheduler=path)
    assert programs.own_controllers == frozenset(own)


def test_everything_listens_on_the_cluster_s_own_loopback_addresses_and_wants_certificates_or_tokens() -> None:
    etcd = _flags(real.etcd_argv(PROGRAMS, CLUSTER, FILES))
    api = _flags(real.apiserver_argv(PROGRAMS, CLUSTER, FILES, 33))
    assert etcd["listen-client-urls"] == api["etcd-servers"] == "https://127.64.10.4:2379"
    assert etcd["listen-peer-urls"] == "https://127.64.10.4:2380"
    assert (api["bind-address"], api["secure-port"]) == (CLUSTER.api_address, "6443")
    assert _flags(real.controller_manager_argv(PROGRAMS, CLUSTER, FILES))["bind-address"] == CLUSTER.api_address
    assert etcd["client-cert-auth"] == etcd["peer-client-cert-auth"] == "true"
    assert api["anonymous-auth"] == "false"
    assert api["kubelet-certificate-authority"] == str(FILES.root)
    assert api["kubelet-preferred-address-types"] == "InternalIP"
    assert "ServiceAccount" not in api["disable-admission-plugins"]
    assert api["service-account-issuer"] == CLUSTER.api_url


@pytest.mark.parametrize(("minor", "translated"), [(29, False), (35, False), (36, None)])
def test_exec_reaches_the_kubelet_as_it_comes(minor: int, translated: bool | None) -> None:
    gates = _flags(real.apiserver_argv(PROGRAMS, CLUSTER, FILES, minor)).get("feature-gates")
    assert gates == (None if translated is None else "TranslateStreamCloseWebsocketRequests=false")


def test_tokens_are_written_as_kube_apiserver_reads_them() -> None:
    lines = real.token_lines({"t": User(name="admin", groups=("system:masters", "more"))})
    assert lines == 't,admin,admin,"system:masters,more"\n'


def test_addresses_in_the_api_are_none_that_a_real_server_refuses_and_lead_back_to_those_that_answer() -> None:
    for address in (CLUSTER.shown(CLUSTER.pod_address(7)), CLUSTER.service_range.removesuffix("/24")):
        ip = ipaddress.IPv4Address(address)
        assert not any((ip.is_loopback, ip.is_unspecified, ip.is_link_local, ip.is_multicast))
    assert CLUSTER.shown("127.64.11.8") == "240.64.11.8"
    assert [reachable(one) for one in ("240.64.11.8", "127.64.11.8", "203.0.113.9")] == [
        *("127.64.11.8", "127.64.11.8", "203.0.113.9")
    ]
    assert not ipaddress.ip_network(CLUSTER.service_range).overlaps(ipaddress.ip_network(OTHER.service_range))
    emulated = two_clouds(Path("/lab"), 64).clusters[0]
    assert emulated.shown("127.64.11.8") == "127.64.11.8"


def test_controllers_that_are_ours_beside_a_manager_exist() -> None:
    own = Programs(apiserver="/a", etcd="/e", controller_manager="/c").own_controllers
    assert own <= set(controllers(CLUSTER, "root", int))


def test_definitions_keep_what_their_schema_does_not_name() -> None:
    for kind in CUSTOM_KINDS:
        definition = definition_of(kind)
        names = definition["spec"]["names"]
        assert definition["metadata"]["name"] == f"{names['plural']}.{definition['spec']['group']}"
        assert [version["storage"] for version in definition["spec"]["versions"]].count(True) == 1
        for version in definition["spec"]["versions"]:
            properties = version["schema"]["openAPIV3Schema"]["properties"]
            assert all(properties[name]["x-kubernetes-preserve-unknown-fields"] for name in ("spec", "status"))
            assert all(column["jsonPath"].startswith(".") for column in version.get("additionalPrinterColumns", ()))


@pytest.mark.envoy
async def test_stages_1_and_2_go_through_where_endpoints_on_loopback_are_refused(lab: launch.LabState) -> None:
    contexts = yaml.safe_load(lab.kubeconfig.read_text())["contexts"]
    names = ["cluster1", "cluster2", "cluster1-viewer", "cluster2-viewer"]
    assert [context["name"] for context in contexts] == names
    await asyncio.to_thread(_set_up_and_ask, lab.kubeconfig)
    client = await Client.connect(lab.kubeconfig, "cluster1")
    try:
        slices, _ = await client.list(ENDPOINT_SLICES, "sample")
        shown = {address for one in slices for endpoint in one["endpoints"] for address in endpoint["addresses"]}
        assert {address.split(".")[0] for address in shown} == {"240"}
        with pytest.raises(ApiError, match="loopback"):
            await client.create(ENDPOINTS, _endpoints("127.0.0.1"))
    finally:
        await client.close()


def _set_up_and_ask(kubeconfig: Path) -> None:
    vip = set_up(kubeconfig)
    assert set(probes.curl_from_here(f"http://{vip}/hello", requests=20)["version"]) == {"v1", "v2"}


@pytest.mark.envoy
def test_the_lab_goes_down_with_its_api_server_and_says_why(lab: launch.LabState) -> None:
    mark = f"MESHBOOK_LAB={lab.root}"
    pids = [pid for pid in marked(mark) if b"--etcd-servers=" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(pids) == 2
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: not lab.alive)
    assert "kube-apiserver ended with exit code -9" in (lab.root / "lab.log").read_text()
    until(lambda: not marked(mark))


def test_an_api_server_that_ends_at_its_start_is_reported_with_its_words(
    standin: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '#!/bin/sh\n[ "$1" = --version ] && echo Kubernetes v1.33.0 && exit\necho unknown flag; exit 1\n'
    _program(tmp_path / "assets", "kube-apiserver", text=text)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", standin["KUBEBUILDER_ASSETS"])
    with pytest.raises(LabError, match="unknown flag"):
        launch.start(tmp_path / "lab", launch.Choice(apiserver="real"))


@pytest.mark.parametrize(
    ("program", "said", "refusal"),
    [
        ("kube-apiserver", "Kubernetes v1.28.4", r"no kube-apiserver 1\.29\.0 or newer"),
        ("etcd", "who knows", r"no etcd 3\.5\.13 or newer"),
    ],
)
def test_a_program_that_is_too_old_or_unknown_is_refused(
    standin: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, said: str, refusal: str
) -> None:
    _program(tmp_path / "assets", program, text=f"#!/bin/sh\necho '{said}'\n")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", standin["KUBEBUILDER_ASSETS"])
    with pytest.raises(LabError, match=refusal):
        launch.start(tmp_path / "lab", launch.Choice(apiserver="real"))


def _endpoints(ip: str) -> Object:
    subset = {"addresses": [{"ip": ip}], "ports": [{"port": 80}]}
    metadata = {"name": "elsewhere", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": [subset]}
