"""The fleet feature behind a MultiClusterIngress: enable it for a config membership, then wait for the VIP.

The only module that talks to Google Cloud (GKE Hub), with the optional ``google-cloud-gke-hub``. The first answer
through the VIP is ``probes``' to wait for.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from meshbook import progress
from meshbook.clusters import Cluster, Object, is_loopback, refusal_hint
from meshbook.errors import ClusterError, FleetError, UsageError, WaitTimeout
from meshbook.settings import HUB_PROJECT_VARIABLE

FEATURE = "multiclusteringress"
INGRESS_KINDS = ("MultiClusterIngress", "MultiClusterService")
EXTENSION = "gkehub.googleapis.com"
"""Name of the extension of a kubeconfig's cluster entry that tells where its fleet API is."""
_ENDPOINT_VARIABLE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB"
_TOKEN_FILE_VARIABLE = "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"
"""gcloud's own variables, so that one set of exports serves gcloud and meshbook."""
_REQUEST_S = 30.0
_LOOK_S = 0.5
_CHANGING = ("ENABLING", "UPDATING", "SERVICE_UPDATING", "DISABLING")
_APIS = "gcloud services enable gkehub.googleapis.com multiclusteringress.googleapis.com"


@dataclass(frozen=True, kw_only=True)
class IngressFeature:
    """The fleet feature after ``enable_ingress``; the project is left out, since notebooks are shown to others."""

    config_membership: str
    """``<location>/<membership>``."""
    outcome: Literal["created", "unchanged"]


@dataclass(frozen=True, kw_only=True)
class Membership:
    """A cluster's name in the fleet."""

    project: str = field(repr=False)
    location: str
    name: str

    @classmethod
    def parse(cls, text: str, project: str = "") -> Membership:
        """Read ``projects/P/locations/L/memberships/M``, or ``L/M`` with ``project``."""
        found = re.fullmatch(r"(?:projects/([^/]+)/locations/([^/]+)/memberships|([^/]+))/([^/]+)", text)
        if not found:
            hint = "us-central1/my-cluster, or projects/P/locations/us-central1/memberships/my-cluster"
            raise UsageError(f"cannot read the membership {text!r}", hint=hint)
        if not (project := found[1] or project):
            hint = f"set {HUB_PROJECT_VARIABLE}, or pass project="
            raise UsageError(f"the project of membership {text} is not known", hint=hint)
        return cls(project=project, location=found[2] or found[3], name=found[4])

    @property
    def resource(self) -> str:
        return f"projects/{self.project}/locations/{self.location}/memberships/{self.name}"

    def __str__(self) -> str:
        return f"{self.location}/{self.name}"


def enable_ingress(
    config_membership: str,
    config_cluster: Cluster | None = None,
    *,
    project: str = "",
    timeout_s: float = 300,
) -> IngressFeature:
    """Enable the fleet's ingress feature with ``config_membership`` as its config cluster; again is no change.

    With ``config_cluster``, its kubeconfig may tell where the fleet API is, and the wait includes the kinds that the
    feature brings to that cluster. FleetError when another membership is configured.
    """
    address = _address(config_cluster, project)
    membership = Membership.parse(config_membership, address.project)
    api = _FleetApi(address)
    member = shlex.join([f"--config-membership={membership.name}", f"--location={membership.location}"])
    progress.command(f"gcloud container fleet ingress enable {member}")
    feature = api.feature(membership.project)
    if feature is None:
        api.enable(membership, timeout_s)
    else:
        configured = str(feature.spec.multiclusteringress.config_membership)
        if configured.partition("/locations/")[2] != membership.resource.partition("/locations/")[2]:
            raise FleetError(
                f"the fleet's ingress feature has another config membership: {_redacted(configured) or 'none'}",
                hint=f"use that one, or move every MultiClusterIngress: gcloud container fleet ingress update {member}",
            )
        api.wait_until_active(membership.project, timeout_s)
    if config_cluster:
        config_cluster.wait_for_kinds(INGRESS_KINDS, timeout_s=timeout_s)
    return IngressFeature(config_membership=str(membership), outcome="created" if feature is None else "unchanged")


def memberships(config_cluster: Cluster | None = None, *, project: str = "") -> list[str]:
    """Return the fleet's members as ``<location>/<membership>``; found as by ``enable_ingress``."""
    address = _address(config_cluster, project)
    if not address.project:
        raise UsageError("the fleet's project is not known", hint="set CLOUDSDK_CORE_PROJECT, or pass project=")
    progress.command("gcloud container fleet memberships list")
    return sorted(str(Membership.parse(name)) for name in _FleetApi(address).memberships(address.project))


@dataclass(frozen=True, kw_only=True)
class _Address:
    """Where the fleet API is and who asks. Empty fields mean Google's own defaults."""

    endpoint: str
    """``https://host[:port]``; plain http only to this machine, since a token travels with each request."""
    token_file: str = field(repr=False)
    """File with an access token; empty for Application Default Credentials."""
    project: str = field(repr=False)


def _address(config_cluster: Cluster | None, project: str) -> _Address:
    """Return what gcloud's variables say, else the kubeconfig's extension; a given ``project`` comes first.

    A token goes to the endpoint that it was named with: the extension's is used with the extension's endpoint alone.
    """
    extension = config_cluster.extension(EXTENSION) if config_cluster else {}
    endpoint, token_file, named = (
        os.environ.get(name, "") for name in (_ENDPOINT_VARIABLE, _TOKEN_FILE_VARIABLE, HUB_PROJECT_VARIABLE)
    )
    if not endpoint and extension.get("endpoint"):
        endpoint, token_file = extension["endpoint"], extension.get("token-file", "")
    project = project or named or extension.get("project", "")
    return _Address(endpoint=endpoint.rstrip("/"), token_file=token_file, project=project)


def wait_for_vip(cluster: Cluster, namespace: str, name: str, *, timeout_s: float = 900) -> str:
    """Wait until the MultiClusterIngress has its address and return it (``203.0.113.7``, or ``address:port``)."""
    if cluster.find("MultiClusterIngress", name, namespace) is None:
        raise ClusterError(
            f"{cluster.name}: there is no MultiClusterIngress {name} in {namespace}",
            hint="stage 2 of the runbook makes it: run that first; or set ingress, gateway_namespace, config_cluster",
        )
    has_vip = ["--for=jsonpath={.status.VIP}", f"--timeout={timeout_s:.0f}s"]
    cluster.tell_kubectl("wait", f"multiclusteringress/{name}", *has_vip, namespace=namespace)
    try:
        found = cluster.wait_for("MultiClusterIngress", name, namespace, _vip_of, timeout_s=timeout_s)
    except WaitTimeout as error:
        raise WaitTimeout(
            f"{cluster.name}: MultiClusterIngress {name} has no VIP after {timeout_s:g} s",
            hint="was the feature enabled for this cluster (gkehub.enable_ingress), and is it a GKE cluster?",
            **_obstacles(cluster, namespace, name),
        ) from error
    return _vip_of(found)


def _vip_of(ingress: Object) -> str:
    return str((ingress.get("status") or {}).get("VIP") or "")


def _obstacles(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    """Return what may keep the VIP away: a backend that is not there, and the controller's own words."""
    ingress = cluster.find("MultiClusterIngress", name, namespace) or {}
    spec = ((ingress.get("spec") or {}).get("template") or {}).get("spec") or {}
    backend = str((spec.get("backend") or {}).get("serviceName", ""))
    absent = backend and cluster.find("MultiClusterService", backend, namespace) is None
    try:
        events = cluster.list("Event", namespace, fields=f"involvedObject.name={name}")
    except ClusterError as error:
        events = [{"message": f"not readable: {error.message}"}]
    words = [f"{event.get('reason', '')} {event.get('message', '')}".strip() for event in events[-3:]]
    return {
        "backend": f"there is no MultiClusterService {backend} in {namespace}" if absent else "",
        "events": "; ".join(words) or "none, so no controller has looked at it",
    }


def _redacted(text: object) -> str:
    return re.sub(r"projects/[^/\s'\"]+", "projects/…", str(text))


class _FleetApi:
    """GKE Hub v1 over REST, for one feature. Foreign errors become FleetError, without the project's name."""

    def __init__(self, address: _Address) -> None:
        try:
            import google.auth.exceptions
            import requests
            from google.api_core import exceptions
            from google.api_core.future.polling import DEFAULT_POLLING
            from google.cloud import gkehub_v1
        except ImportError as error:
            raise UsageError("google-cloud-gke-hub is not installed", hint="pip install 'meshbook[gke]'") from error
        self._v1: Any = gkehub_v1
        self._poll = DEFAULT_POLLING.with_delay(initial=0.2, maximum=10, multiplier=1.5)
        self._not_found = exceptions.NotFound
        auth = google.auth.exceptions
        self._no_login = (auth.DefaultCredentialsError, auth.RefreshError)
        self._foreign = (exceptions.GoogleAPIError, auth.GoogleAuthError, requests.RequestException, TimeoutError)
        url = urlsplit(address.endpoint if "//" in address.endpoint else f"https://{address.endpoint}")
        loopback = is_loopback(url.geturl())
        if url.scheme != "https" and not loopback:
            raise UsageError(f"the fleet API at {address.endpoint} would get a token unencrypted", hint="https://…")
        options = {"api_endpoint": address.endpoint} if address.endpoint else {}
        credentials = _credentials(address.token_file)
        with self._errors_of("log in to Google Cloud"):
            self._client = self._v1.GkeHubClient(transport="rest", client_options=options, credentials=credentials)
        if loopback:  # a proxy cannot reach this machine, and must not see the token
            for transport in (self._client.transport, self._client.transport.operations_client._transport):
                transport._session.trust_env = False

    def feature(self, project: str) -> Any:
        """Return the ingress feature of the fleet; None when it is not enabled."""
        name = f"projects/{project}/locations/global/features/{FEATURE}"
        with self._errors_of("read the fleet's ingress feature"):
            try:
                return self._client.get_feature(name=name, timeout=_REQUEST_S)
            except self._not_found:
                return None

    def memberships(self, project: str) -> list[str]:
        """Return the resource names of the fleet's memberships in all locations."""
        parent = f"projects/{project}/locations/-"
        with self._errors_of("list the fleet's memberships"):
            return [str(found.name) for found in self._client.list_memberships(parent=parent, timeout=_REQUEST_S)]

    def wait_until_active(self, project: str, timeout_s: float) -> None:
        """Wait for a change that an earlier call, or somebody else, has begun."""
        deadline = time.monotonic() + timeout_s
        while (feature := self.feature(project)) and feature.resource_state.state.name in _CHANGING:
            if time.monotonic() > deadline:
                raise FleetError(
                    f"the fleet's ingress feature is still {feature.resource_state.state.name} after {timeout_s:g} s"
                )
            time.sleep(_LOOK_S)

    def enable(self, membership: Membership, timeout_s: float) -> None:
        """Enable the feature with this config membership, and wait until that is done."""
        spec = self._v1.multiclusteringress_v1.FeatureSpec(config_membership=membership.resource)
        feature = self._v1.Feature(spec=self._v1.CommonFeatureSpec(multiclusteringress=spec))
        where = {"parent": f"projects/{membership.project}/locations/global", "feature_id": FEATURE}
        with self._errors_of("enable the fleet's ingress feature"):
            try:
                begun = self._client.create_feature(**where, resource=feature, timeout=_REQUEST_S)
                begun.result(timeout=timeout_s, polling=self._poll)
            except TimeoutError as error:
                message = f"the fleet did not finish enabling its ingress feature within {timeout_s:g} s"
                raise FleetError(message, hint="run this step again: it goes on where the fleet is") from error

    @contextmanager
    def _errors_of(self, task: str) -> Iterator[None]:
        try:
            yield
        except self._foreign as error:
            hint = "gcloud auth application-default login" if isinstance(error, self._no_login) else ""
            said = refusal_hint(0, str(error))  # of the code itself only that the APIs may be off
            hint = hint or said or (_APIS if getattr(error, "code", None) == 403 else "")
            raise FleetError(f"cannot {task}", saw=_redacted(error), hint=hint) from error


def _credentials(token_file: str) -> Any:
    """Return the token of ``token_file`` as credentials; None for Application Default Credentials."""
    if not token_file:
        return None
    from google.oauth2.credentials import Credentials

    try:
        token = Path(token_file).expanduser().read_text(encoding="utf-8").strip()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UsageError(f"cannot read the access token's file: {reason}", hint="see the kubeconfig") from error
    build: Any = Credentials
    return build(token=token)
