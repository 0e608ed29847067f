"""One real control plane: started in order, found to answer, stopped with all that belongs to it."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import aiohttp

from meshbook.errors import LabError
from meshbook.lab import pki
from meshbook.lab.apiserver import User
from meshbook.lab.apiserver.definitions import definition_of
from meshbook.lab.apiserver.kinds import CUSTOM_KINDS
from meshbook.lab.client import ApiError, Client, Resource
from meshbook.lab.kubelet import Process, ProcessTable, base_environment
from meshbook.lab.pki import Authority
from meshbook.lab.realapiserver import arguments
from meshbook.lab.realapiserver.arguments import FIRST_MINOR, Files
from meshbook.lab.realapiserver.binaries import Programs
from meshbook.lab.topology import ETCD_PORT, ClusterTopology, LabTopology
from meshbook.objects import Object

START_TIMEOUT_S = 40.0
REQUEST_TIMEOUT_S = 2.0
POLL_S = 0.1
LOG_LINES = 12
MANAGER = "meshbook-lab"

DEFINITIONS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)


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
        self._deadline = time.monotonic() + START_TIMEOUT_S
        files, minor = self._files(), await self._minor()
        await self._spawn("etcd", arguments.etcd(self._programs, self.cluster, files), files)
        await self._until("etcd", self._etcd_listens)
        await self._spawn("kube-apiserver", arguments.apiserver(self._programs, self.cluster, files, minor), files)
        await self._until("kube-apiserver", self._is_ready)
        await self._define_kinds()
        for path, argv in (
            (self._programs.controller_manager, arguments.controller_manager(self._programs, self.cluster, files)),
            (self._programs.scheduler, arguments.scheduler(self._programs, self.cluster, files)),
        ):
            if path:
                await self._spawn(Path(path).name, argv, files)

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
        pki.write_private(files.tokens, arguments.token_lines(self._tokens))
        token = next(iter(self._tokens))
        text = pki.cluster_kubeconfig(self.cluster, self._authority.root_pem, token)
        pki.write_private(files.kubeconfig, text)
        return files

    async def _minor(self) -> int:
        """Return the API server's minor version, as it says itself."""
        said = self._log("version")
        argv = [self._programs.apiserver, "--version"]
        process = await self._processes.spawn(argv, env=base_environment(), cwd=said.parent, log=said)
        async with asyncio.timeout(START_TIMEOUT_S):
            await process.wait()
        text = said.read_text(errors="replace")
        match = re.search(r"v1\.(\d+)\.", text)
        if match is None or int(match[1]) < FIRST_MINOR:
            raise LabError(f"{argv[0]} is no kube-apiserver 1.{FIRST_MINOR} or newer", said=text.strip()[:200])
        return int(match[1])

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
            await asyncio.sleep(POLL_S)
        raise LabError(
            f"{self.cluster.name}: {name} was not ready in {START_TIMEOUT_S:g} s",
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
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
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
        definitions = [definition_of(kind) for kind in CUSTOM_KINDS]
        try:
            for definition in definitions:
                await client.apply(DEFINITIONS, definition, manager=MANAGER)
            for definition in definitions:
                await self._until("kube-apiserver", partial(_not_served, client, definition))
        finally:
            await client.close()

    def _ended(self, name: str) -> LabError:
        code = self._running[name].returncode
        return LabError(f"{self.cluster.name}: {name} ended with exit code {code}", log=self._tail(name))

    def _log(self, name: str) -> Path:
        return self._topology.control_plane_folder(self.cluster.name) / f"{name}.log"

    def _tail(self, name: str) -> str:
        return "\n".join(self._log(name).read_text(errors="replace").splitlines()[-LOG_LINES:])


async def _not_served(client: Client, definition: Object) -> str:
    """Return why the kind of a definition is not served yet; nothing when it is."""
    spec = definition["spec"]
    version = next(version["name"] for version in spec["versions"] if version["storage"])
    kind = Resource(group=spec["group"], version=version, plural=spec["names"]["plural"], kind=spec["names"]["kind"])
    try:
        await client.list(kind)
    except ApiError as error:
        return error.message
    return ""
