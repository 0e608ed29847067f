"""A real control plane in place of the emulated one: etcd and kube-apiserver of one cluster, as processes of the lab.

``find`` looks for the programs, ``RealApiServer`` starts them, waits until they answer and makes Istio's and Google's
kinds known. Everything listens on the cluster's own loopback addresses. Kubelet, controllers and istiod are the same as
ever: clients over HTTPS. No behaviour of an API server belongs here.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp

from meshbook.errors import LabError
from meshbook.lab import build, pki
from meshbook.lab.apiserver import CUSTOM_KINDS, Kind, User
from meshbook.lab.client import ApiError, Client, Resource
from meshbook.lab.kubelet import Process, ProcessTable, base_environment
from meshbook.lab.pki import Authority
from meshbook.lab.topology import API_PORT, ETCD_PEER_PORT, ETCD_PORT, ClusterTopology, LabTopology
from meshbook.objects import Object

ASSETS = "KUBEBUILDER_ASSETS"
"""The variable by which setup-envtest says where it has put its programs."""
FIRST_MINOR = 29
FIRST_MINOR_PASSING_STREAMS = 36
"""From 1.36 on the API server passes v5 streams to a Node that declares that it takes them."""
STREAMS_TRANSLATED = "TranslateStreamCloseWebsocketRequests"
FIRST_ETCD, FIRST_ETCD_OF_WATCH_LISTS = (3, 5, 0), (3, 5, 13)
FIRST_MINOR_OF_WATCH_LISTS = 34
"""From 1.34 on lists are streamed, for which etcd must tell of its progress."""
ADMISSION_LEFT_OUT = "TaintNodesByCondition"
"""The lab's only node is ready as soon as it is there."""
LEFT_TO_MANAGER = (
    "deployment,replicaset,endpoint,endpointslice,garbagecollector,namespace,"
    "serviceaccount,root-ca-cert-publisher,horizontalpodautoscaling,disruption,job,ttl-after-finished,clusterrole-aggregation"
)
"""Controllers of kube-controller-manager that stand in for the lab's, by the names that all versions know."""

_START_TIMEOUT_S = 40.0
_REQUEST_TIMEOUT_S = 2.0
_POLL_S = 0.1
LOG_LINES = 12
_MANAGER = "meshbook-lab"
_HEAD = {"group": "apiextensions.k8s.io", "version": "v1", "plural": "customresourcedefinitions"}
DEFINITIONS = Resource(**_HEAD, kind="CustomResourceDefinition", namespaced=False)


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Paths of programs; an empty one means that the lab's own part does its work."""

    apiserver: str
    etcd: str
    controller_manager: str = ""
    scheduler: str = ""

    @property
    def own_controllers(self) -> frozenset[str] | None:
        """Names of the lab's controllers that still have to run; None: all of them."""
        if not self.controller_manager:
            return None
        return frozenset({"loadbalancers"} | ({"scheduler"} if not self.scheduler else set()))


def find(environment: Mapping[str, str]) -> Programs:
    """Look in ``$KUBEBUILDER_ASSETS``, on ``$PATH``, then for those that ``build`` made; ``LabError`` without any.

    Those that were built are taken together, never beside another API server: their versions need not agree. A
    kube-scheduler counts only beside a kube-controller-manager, as no cluster has the one without the other.
    """
    installed = os.pathsep.join(filter(None, (environment.get(ASSETS), environment.get("PATH"))))
    for path in (installed, str(build.folder(environment))):
        found = {name: shutil.which(name, path=path) or "" for name in (*build.PACKAGES, "kube-scheduler")}
        if found["kube-apiserver"] and found["etcd"]:
            manager = found["kube-controller-manager"]
            return Programs(
                apiserver=found["kube-apiserver"],
                etcd=found["etcd"],
                controller_manager=manager,
                scheduler=found["kube-scheduler"] if manager else "",
            )
    missing = [name for name in ("kube-apiserver", "etcd") if not shutil.which(name, path=installed)]
    raise LabError(
        f"a real API server needs {' and '.join(missing)}, in ${ASSETS} or on PATH",
        hint="meshbook lab build makes them; or setup-envtest use -p env; or --apiserver emulated",
    )


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where one control plane keeps its things."""

    folder: Path
    root: Path
    """Certificate of the lab's authority."""
    etcd: Path
    server: Path
    kubelet_client: Path
    service_account: Path

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"


def etcd_argv(programs: Programs, cluster: ClusterTopology, files: Files) -> list[str]:
    """Return how etcd is started: mutual TLS, and no fsync, since the data goes with the lab."""
    client, peer = (f"https://{cluster.etcd_address}:{port}" for port in (ETCD_PORT, ETCD_PEER_PORT))
    flags: dict[str, object] = {
        "name": cluster.name,
        "data-dir": files.folder / "etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"{cluster.name}={peer}",
        "unsafe-no-fsync": "true",
    }
    for prefix in ("", "peer-"):
        flags |= {f"{prefix}cert-file": files.etcd, f"{prefix}key-file": files.etcd}
        flags |= {f"{prefix}trusted-ca-file": files.root, f"{prefix}client-cert-auth": "true"}
    return _argv(programs.etcd, flags)


def apiserver_argv(programs: Programs, cluster: ClusterTopology, files: Files, minor: int) -> list[str]:
    """Return how kube-apiserver 1.``minor`` is started."""
    flags: dict[str, object] = {
        "etcd-servers": f"https://{cluster.etcd_address}:{ETCD_PORT}",
        "etcd-cafile": files.root,
        "etcd-certfile": files.etcd,
        "etcd-keyfile": files.etcd,
        "bind-address": cluster.api_address,
        "secure-port": API_PORT,
        "advertise-address": cluster.shown(cluster.api_address),
        "endpoint-reconciler-type": "none",
        "tls-cert-file": files.server,
        "tls-private-key-file": files.server,
        "anonymous-auth": "false",
        "token-auth-file": files.tokens,
        "authorization-mode": "RBAC",
        "service-account-issuer": cluster.api_url,
        "service-account-key-file": files.service_account,
        "service-account-signing-key-file": files.service_account,
        "service-cluster-ip-range": cluster.service_range,
        "kubelet-certificate-authority": files.root,
        "kubelet-client-certificate": files.kubelet_client,
        "kubelet-client-key": files.kubelet_client,
        "kubelet-preferred-address-types": "InternalIP",
        "disable-admission-plugins": ADMISSION_LEFT_OUT,
    }
    if minor < FIRST_MINOR_PASSING_STREAMS:
        flags["feature-gates"] = f"{STREAMS_TRANSLATED}=false"
    return _argv(programs.apiserver, flags)


def controller_manager_argv(programs: Programs, cluster: ClusterTopology, files: Files) -> list[str]:
    """Return how kube-controller-manager is started, with just the controllers that a mesh needs."""
    own = {"root-ca-file": files.root, "use-service-account-credentials": "false"}
    flags = _client_flags(cluster, files) | {"controllers": LEFT_TO_MANAGER} | own
    return _argv(programs.controller_manager, flags)


def scheduler_argv(programs: Programs, cluster: ClusterTopology, files: Files) -> list[str]:
    return _argv(programs.scheduler, _client_flags(cluster, files))


def _client_flags(cluster: ClusterTopology, files: Files) -> dict[str, object]:
    return {"kubeconfig": files.kubeconfig, "leader-elect": "false", "bind-address": cluster.api_address}


def _argv(program: str, flags: Mapping[str, object]) -> list[str]:
    return [program, *(f"--{name}={value}" for name, value in flags.items())]


def token_lines(tokens: Mapping[str, User]) -> str:
    """Return the file of static tokens: token, user, uid, groups."""
    return "".join(f'{token},{user.name},{user.name},"{",".join(user.groups)}"\n' for token, user in tokens.items())


def definition_of(kind: Kind) -> Object:
    """Return the CustomResourceDefinition by which a cluster knows ``kind``; schemas keep what they do not name."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}}
    version: Object = {"served": True, "schema": schema, "subresources": {"status": {}}}
    version["additionalPrinterColumns"] = [{"name": c.name, "jsonPath": c.path, "type": c.type} for c in kind.columns]
    versions = [version | {"name": name, "storage": name == kind.versions[0]} for name in kind.versions]
    names: Object = {"kind": kind.kind, "plural": kind.plural, "shortNames": list(kind.short)}
    names |= {"categories": list(kind.categories)} if kind.categories else {}
    spec = {"group": kind.group, "scope": "Namespaced", "names": names, "versions": versions}
    head: Object = {"apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind}
    return head | {"metadata": {"name": kind.qualified}, "spec": spec}


class RealApiServer:
    """etcd and kube-apiserver of one cluster, with kube-controller-manager and kube-scheduler where there are any.

    Starts, stops and falls silent as the emulated one does. ``tokens`` maps bearer tokens to users; the first one's
    user must be an administrator.
    """

    def __init__(
        self,
        topology: LabTopology,
        cluster: ClusterTopology,
        programs: Programs,
        processes: ProcessTable,
        authority: Authority,
        tokens: Mapping[str, User],
    ) -> None:
        self.cluster = cluster
        self._topology = topology
        self._programs = programs
        self._processes = processes
        self._authority = authority
        self._tokens = tokens
        self._tls = authority.client_context(f"{cluster.name}-readiness")
        self._running: dict[str, Process] = {}
        self._deadline = 0.0

    async def start(self) -> None:
        """Start everything, and return when the API server is ready and serves the custom kinds."""
        self._deadline = time.monotonic() + _START_TIMEOUT_S
        files, minor = self._files(), await self._checked_versions()
        await self._spawn("etcd", etcd_argv(self._programs, self.cluster, files), files)
        await self._until("etcd", self._etcd_listens)
        await self._spawn("kube-apiserver", apiserver_argv(self._programs, self.cluster, files, minor), files)
        await self._until("kube-apiserver", self._is_ready)
        await self._define_kinds()
        for argv_of in (controller_manager_argv, scheduler_argv):
            program, *flags = argv_of(self._programs, self.cluster, files)
            if program:
                await self._spawn(Path(program).name, [program, *flags], files)

    async def stop(self) -> None:
        """Kill everything: what etcd holds is of no use without the lab."""
        for process in self._running.values():
            process.kill_group()
        await asyncio.gather(*(process.wait() for process in self._running.values()))

    def silence(self, silent: bool) -> None:
        """Hold the API server back from answering, or let it answer."""
        if "kube-apiserver" in self._running:
            self._running["kube-apiserver"].signal_group(signal.SIGSTOP if silent else signal.SIGCONT)

    async def watch(self) -> None:
        """Raise ``LabError`` when one of the programs ends by itself; otherwise run until cancelled."""
        ends = {asyncio.create_task(process.wait()): name for name, process in self._running.items()}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            raise self._ended(ends[done.pop()])
        finally:
            for task in ends:
                task.cancel()

    def _files(self) -> Files:
        """Write what the programs read: certificates, tokens, and a kubeconfig for the clients among them."""
        name, addresses = self.cluster.name, [self.cluster.api_address, self.cluster.etcd_address]
        folder = self._topology.control_plane_folder(name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        files = Files(
            folder=folder,
            root=self._authority.root_file,
            etcd=self._authority.chain_file(f"{name}-etcd", addresses),
            server=self._authority.chain_file(f"{name}-apiserver", addresses),
            kubelet_client=self._authority.chain_file(f"{name}-apiserver-kubelet-client", []),
            service_account=self._authority.chain_file(f"{name}-service-account", []),
        )
        pki.write_private(files.tokens, token_lines(self._tokens))
        token = next(iter(self._tokens))
        text = pki.cluster_kubeconfig(self.cluster, self._authority.root_pem, token)
        pki.write_private(files.kubeconfig, text)
        return files

    async def _checked_versions(self) -> int:
        """Return the API server's minor version; refuse programs that are too old, or do not say how old they are."""
        minor = (await self._version(self._programs.apiserver, (1, FIRST_MINOR, 0)))[1]
        await self._version(
            self._programs.etcd, FIRST_ETCD if minor < FIRST_MINOR_OF_WATCH_LISTS else FIRST_ETCD_OF_WATCH_LISTS
        )
        return minor

    async def _version(self, program: str, first: tuple[int, int, int]) -> tuple[int, ...]:
        said = self._log("version")
        said.unlink(missing_ok=True)
        process = await self._processes.spawn([program, "--version"], env=base_environment(), cwd=said.parent, log=said)
        async with asyncio.timeout(_START_TIMEOUT_S):
            await process.wait()
        text = said.read_text(errors="replace")
        found = re.search(r"\b(?:Version: |v)(\d+)\.(\d+)\.(\d+)", text)
        version = tuple(map(int, found.groups())) if found else ()
        if version < first:
            name, wanted = Path(program).name, ".".join(map(str, first))
            raise LabError(f"{program} is no {name} {wanted} or newer", said=text.strip()[:200])
        return version

    async def _spawn(self, name: str, argv: list[str], files: Files) -> None:
        process = await self._processes.spawn(argv, env=base_environment(), cwd=files.folder, log=self._log(name))
        self._running[name] = process

    async def _until(self, name: str, holds: Callable[[], Awaitable[str]]) -> None:
        """Wait until ``holds`` has nothing to object."""
        objection = ""
        while time.monotonic() < self._deadline:
            if self._running[name].returncode is not None:
                raise self._ended(name)
            objection = await holds()
            if not objection:
                return
            await asyncio.sleep(_POLL_S)
        raise LabError(
            f"{self.cluster.name}: {name} was not ready in {_START_TIMEOUT_S:g} s",
            last_seen=objection,
            log=self._tail(name),
        )

    async def _etcd_listens(self) -> str:
        try:
            _, writer = await asyncio.open_connection(self.cluster.etcd_address, ETCD_PORT)
        except OSError as error:
            return str(error)
        writer.close()
        return ""

    async def _is_ready(self) -> str:
        headers = {"Authorization": f"Bearer {next(iter(self._tokens))}"}
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as http,
                http.get(f"{self.cluster.api_url}/readyz", ssl=self._tls) as response,
            ):
                return "" if response.status == 200 else f"/readyz: {response.status} {(await response.text())[-300:]}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return str(error) or type(error).__name__

    async def _define_kinds(self) -> None:
        """Make Istio's and Google's kinds known, and wait until all of them are served."""
        client = await Client.connect(self._topology.kubeconfig, self.cluster.name)
        try:
            for kind in CUSTOM_KINDS:
                await client.apply(DEFINITIONS, definition_of(kind), manager=_MANAGER)
            for kind in CUSTOM_KINDS:
                await self._until("kube-apiserver", partial(_not_served, client, kind))
        finally:
            await client.close()

    def _ended(self, name: str) -> LabError:
        code = self._running[name].returncode
        return LabError(f"{self.cluster.name}: {name} ended with exit code {code}", log=self._tail(name))

    def _log(self, name: str) -> Path:
        return self._topology.control_plane_folder(self.cluster.name) / f"{name}.log"

    def _tail(self, name: str) -> str:
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES:])


async def _not_served(client: Client, kind: Kind) -> str:
    """Return why a kind is not served yet; nothing when it is."""
    resource = Resource(group=kind.group, version=kind.versions[0], plural=kind.plural, kind=kind.kind)
    try:
        await client.list(resource)
    except ApiError as error:
        return error.message
    return ""
