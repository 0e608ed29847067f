"""The emulated kube-apiserver, one instance per cluster: ``ApiServer(cluster, tls, tokens, kubelet_tls)``.

A request passes ``server`` (who asks what: ``requests``, ``nonresource``) → ``rbac`` (may they?) → ``handlers`` (verb)
→ ``store``, the sole writer of objects; what lasts is in ``watch`` and ``streams`` (exec, logs). Beside them are pure
functions of data: ``kinds``, ``schema`` and ``scalars`` (what there is, how it looks), ``decoding`` (bodies),
``patches`` and ``managedfields`` (server-side apply), ``strategy`` and ``validation`` (rules), ``printers`` (tables).

What acts on objects does not belong here: controllers and the kubelet are clients. A new kind goes into ``kinds``.
"""

from __future__ import annotations

from meshbook.lab.apiserver.kinds import CUSTOM_KINDS, KINDS, Kind
from meshbook.lab.apiserver.patches import merge_patch
from meshbook.lab.apiserver.rbac import User, service_account
from meshbook.lab.apiserver.schema import Schema, schema_of
from meshbook.lab.apiserver.server import ApiServer

__all__ = [
    "CUSTOM_KINDS",
    "KINDS",
    "ApiServer",
    "Kind",
    "Schema",
    "User",
    "merge_patch",
    "schema_of",
    "service_account",
]
