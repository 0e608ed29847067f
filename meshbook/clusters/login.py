"""Who sends a request: the credential of a kubeconfig's user, and whom that user acts as.

Plugins are in ``plugin``; how a credential reaches the server is in ``transport``.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from meshbook.clusters.kubeconfig import Kubeconfig, content
from meshbook.clusters.plugin import Credential, plugin_of
from meshbook.errors import MeshbookError, UsageError
from meshbook.objects import Object
from meshbook.settings import Patience

_TOKEN_PUNCTUATION = "!#$&'*+-.^_`|~"
"""What a header's name may hold beside letters and digits."""
_INSTEAD = {
    "gcp": "gcloud container clusters get-credentials writes an entry with gke-gcloud-auth-plugin",
    "azure": "kubelogin convert-kubeconfig writes an entry with a plugin",
}


class Login(Protocol):
    """Where credentials come from."""

    def get(self) -> Credential:
        """Return the credential to use now."""

    def renew(self, refused: Credential) -> bool:
        """Replace a credential that a server has refused; False where there is no other."""


class _Read:
    """A credential that files hold. They are read again when a server refuses what they held."""

    def __init__(self, read: Callable[[], Credential]) -> None:
        self._read, self._held, self._lock = read, read(), threading.Lock()

    def get(self) -> Credential:
        return self._held

    def renew(self, refused: Credential) -> bool:
        with self._lock:
            if self._held == refused:
                try:
                    self._held = self._read()
                except MeshbookError:
                    return False
            return self._held != refused


def login_of(kubeconfig: Kubeconfig, context: str, patience: Patience) -> Login:
    """Return how ``context``'s user logs in; UsageError where that cannot be done, and what to use instead."""
    user = kubeconfig.user(context)
    if "exec" in user and not _authorization(user) and not content(user, "client-certificate"):
        return plugin_of(user["exec"], kubeconfig.cluster(context), patience)
    return _Read(lambda: _read(kubeconfig.read_again().user(context)))


def _read(user: Object) -> Credential:
    certificate, key = content(user, "client-certificate"), content(user, "client-key")
    if bool(certificate) != bool(key):
        raise UsageError("the kubeconfig's user has a client certificate without its key, or the other way round")
    return Credential(authorization=_authorization(user), certificate=certificate, key=key)


def _authorization(user: Object) -> str:
    token = user.get("token", "")
    if "tokenFile" in user:
        token = _token_in(user["tokenFile"]) or token
    if "auth-provider" in user:
        token = token or _token_of(user["auth-provider"])
    if token:
        return f"Bearer {token}"
    if "username" in user:
        pair = f"{user['username']}:{user.get('password', '')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return ""


def _token_in(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the kubeconfig's tokenFile: {error}") from error


def _token_of(provider: Object) -> str:
    """Return the token that an auth-provider's entry holds: kubectl renews it, and only OpenID Connect's is left."""
    name, token = provider.get("name"), str((provider.get("config") or {}).get("id-token", ""))
    if name != "oidc":
        hint = _INSTEAD.get(str(name), "an entry with a plugin (exec)")
        raise UsageError(f"the auth-provider {name!r} of the kubeconfig's user is not supported", hint=hint)
    hint = "kubectl get namespaces renews it in the kubeconfig; kubelogin, a plugin, renews it by itself"
    try:
        claims = token.split(".")[1]
        end = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))).get("exp")
        expired = end is not None and datetime.fromtimestamp(end, UTC) <= datetime.now(UTC)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, OSError) as error:
        raise UsageError("the kubeconfig's user has no id-token of OpenID Connect", hint=hint) from error
    if expired:
        raise UsageError("the id-token of the kubeconfig's user has expired", hint=hint)
    return token


def impersonation(user: Object) -> list[tuple[str, str]]:
    """Return the headers by which a user acts as another one, as kubectl sends them."""
    headers = [("Impersonate-User", user["as"])] if "as" in user else []
    headers += [("Impersonate-Uid", user["as-uid"])] if "as-uid" in user else []
    headers += [("Impersonate-Group", str(group)) for group in user.get("as-groups", [])]
    headers += _extra(user.get("as-user-extra", {}))
    if headers and "as" not in user:
        raise UsageError("the kubeconfig's user has as-uid, as-groups or as-user-extra, and no as")
    return headers


def _extra(extra: Object) -> Iterator[tuple[str, str]]:
    for key, values in extra.items():
        if not isinstance(values, list):
            raise UsageError(f"as-user-extra of the kubeconfig's user: {key!r} needs a list of texts")
        for value in values:
            yield f"Impersonate-Extra-{quote(str(key).lower(), safe=_TOKEN_PUNCTUATION)}", str(value)
