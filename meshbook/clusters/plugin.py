"""A login plugin (``exec`` of a kubeconfig's user): called once, its credential kept until that expires.

As client-go does it, with four differences: one that is about to expire is replaced in the background, a call has a
time limit, a plugin never gets the terminal (a notebook has none), and its words go into the error.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from meshbook.clusters.concurrency import pause
from meshbook.clusters.kubeconfig import content, extension
from meshbook.errors import TAIL, ClusterError, MeshbookError, UsageError
from meshbook.objects import Object, moment_of
from meshbook.settings import Patience

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_MODES = ("Never", "IfAvailable", "Always")
_CLUSTER_CONFIG = "client.authentication.k8s.io/exec"
_AHEAD = timedelta(seconds=60)
"""How long before a credential's end the next one is fetched; half of its time, where it has less than twice this."""
_LOOK_S = 0.25


@dataclass(frozen=True, kw_only=True)
class Credential:
    """What a request shows of who sends it. Empty fields are not shown."""

    authorization: str = ""
    """The header's value."""
    certificate: bytes = b""
    """The client's, with its chain, as PEM."""
    key: bytes = b""
    expires: datetime | None = None

    def __repr__(self) -> str:
        return f"Credential(expires={self.expires})"


class Plugin:
    """One plugin with its arguments. Threads may share it: it is called by one at a time."""

    def __init__(self, call: Call, patience: Patience) -> None:
        self._call, self._timeout_s = call, patience.login_s
        self._apart = timedelta(seconds=patience.login_apart_s)
        self._calling, self._asking = threading.Lock(), threading.Lock()
        self._held: Credential | None = None
        self._usable_until = self._renew_at = self._failed_until = _now()
        self._failure: MeshbookError | None = None

    def get(self) -> Credential:
        """Return the credential that is held, else what a call gives; UsageError where the first call fails."""
        held, now = self._held, _now()
        if held is None or now >= self._usable_until:
            return self._called(instead_of=held)
        with self._asking:
            if ahead := now >= self._renew_at:
                self._renew_at = now + self._apart
        if ahead:
            threading.Thread(target=self._renew_ahead, args=[held], name="meshbook login", daemon=True).start()
        return held

    def renew(self, refused: Credential) -> bool:
        """Replace a credential that a server has refused; False where there is no other."""
        return self._called(instead_of=refused) != refused

    def _renew_ahead(self, held: Credential) -> None:
        with contextlib.suppress(MeshbookError):  # told when what is held has expired, if it still fails then
            self._called(instead_of=held)

    def _called(self, *, instead_of: Credential | None) -> Credential:
        with self._calling:
            if self._held is not None and self._held != instead_of:
                return self._held  # another thread has called it meanwhile
            if self._failure and _now() < self._failed_until:
                raise self._failure
            try:
                given = self._call.credential(self._timeout_s)
            except UsageError as error:
                # What worked before is no mistake of the user's, and may work again.
                self._failure = error if self._held is None else _lost(error)
                self._failed_until = _now() + self._apart
                raise self._failure from error.__cause__
            now, self._held, self._failure = _now(), given, None
            end = given.expires or datetime.max.replace(tzinfo=UTC)
            self._usable_until = max(end, now + self._apart)
            self._renew_at = max(end - min(_AHEAD, (end - now) / 2), now + self._apart)
            return given


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a plugin is called with, by which plugins are told apart."""

    title: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    info: str
    """JSON for $KUBERNETES_EXEC_INFO."""
    install_hint: str

    @classmethod
    def of(cls, plugin: Object, cluster: Object) -> Call:
        """Read ``exec`` of a user's entry; UsageError names what is wrong with it."""
        version, mode = plugin.get("apiVersion", ""), plugin.get("interactiveMode", "IfAvailable")
        command = plugin.get("command", "")
        if not command or version not in _VERSIONS or mode not in _MODES:
            wanted = f"apiVersion ({' or '.join(_VERSIONS)}), command, and interactiveMode {', '.join(_MODES)}"
            raise UsageError(f"login plugin {command!r}: the kubeconfig's exec needs {wanted}", apiVersion=version)
        if mode == "Always":
            hint = "use a plugin, or an option of it, that keeps a login, or a token"
            raise UsageError(f"login plugin {command!r} asks at a terminal, and notebooks have none", hint=hint)
        spec: Object = {"interactive": False}
        if plugin.get("provideClusterInfo"):
            spec["cluster"] = _cluster_info(cluster)
        try:
            env = tuple((str(one["name"]), str(one["value"])) for one in plugin.get("env", []))
        except (KeyError, TypeError) as error:
            raise UsageError(f"login plugin {command!r}: each env needs a name and a value") from error
        return cls(
            title=f"login plugin {command!r}",
            argv=(command, *map(str, plugin.get("args", []))),
            env=env,
            info=json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec}),
            install_hint=plugin.get("installHint", ""),
        )

    def credential(self, timeout_s: float) -> Credential:
        """Call the plugin and return what it gives; UsageError with its own words."""
        said = self._output(timeout_s)
        wanted = json.loads(self.info)["apiVersion"]
        try:
            answer = json.loads(said)
            status, version = answer["status"], answer["apiVersion"]
            token = str(status.get("token") or "")
            pair = [str(status.get(key) or "").encode() for key in ("clientCertificateData", "clientKeyData")]
            expires = moment_of(status["expirationTimestamp"]) if status.get("expirationTimestamp") else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            what = f"{type(error).__name__}: {error}"
            raise UsageError(f"{self.title} did not print an ExecCredential with a status", saw=what) from error
        if version != wanted:
            raise UsageError(f"{self.title} answered as {version}, and the kubeconfig says {wanted}")
        if bool(pair[0]) != bool(pair[1]) or not (token or pair[0]):
            raise UsageError(f"{self.title} gave neither a token nor a certificate with its key")
        authorization = f"Bearer {token}" if token else ""
        return Credential(authorization=authorization, certificate=pair[0], key=pair[1], expires=expires)

    def _output(self, timeout_s: float) -> bytes:
        env = {**os.environ, **dict(self.env), "KUBERNETES_EXEC_INFO": self.info}
        streams: Mapping[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        try:
            process = subprocess.Popen(self.argv, env=env, start_new_session=True, **streams)
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.title} cannot be started: {error}", hint=self.install_hint) from error
        stdout, stderr, ended = b"", b"", False
        left = timeout_s
        try:
            while left > 0 and not ended:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    stdout, stderr = process.communicate(timeout=_LOOK_S)
                    ended = True
                left -= _LOOK_S
                pause(0)
        finally:
            if not ended:
                os.killpg(process.pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    stdout, stderr = process.communicate(timeout=_LOOK_S)
        if not ended or process.returncode:
            end = f"ended with exit code {process.returncode}" if ended else f"did not end within {timeout_s:g} s"
            words = stderr.decode("utf-8", "replace")[-TAIL:].strip()
            hint = "log in as for kubectl first, so that the plugin does not ask"
            raise UsageError(f"{self.title} {end}", said=words, hint=hint)
        return stdout


def _cluster_info(cluster: Object) -> Object:
    kept = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
    found = {key: cluster[key] for key in kept if key in cluster}
    if ca := content(cluster, "certificate-authority"):
        found["certificate-authority-data"] = base64.b64encode(ca).decode()
    if config := extension(cluster, _CLUSTER_CONFIG):
        found["config"] = config
    return found


def _lost(error: UsageError) -> ClusterError:
    return ClusterError(error.message, said=error.evidence.get("said", ""), hint=error.hint)


def _now() -> datetime:
    return datetime.now(UTC)


_plugins: dict[Call, Plugin] = {}
_finding = threading.Lock()


def plugin_of(entry: Object, cluster: Object, patience: Patience) -> Plugin:
    """Return the plugin of a user's ``exec``; the same one for the same call, so that a process logs in once."""
    call = Call.of(entry, cluster)
    with _finding:
        return _plugins.setdefault(call, Plugin(call, patience))
