"""The emulated kube-apiserver, one instance per cluster: ``ApiServer(cluster, tls, tokens, kubelet_tls)``.

A request passes ``server`` (who, what) → ``handlers`` (verb) → ``reading``, ``watching``, ``writing``, ``deleting``,
``subresources``, ``streams`` → ``store``, the sole writer of objects. Beside them are pure rooms: ``kinds`` and
``notation`` (which kinds, how they look), ``patching``, ``applying``, ``ownership`` (the four patch types),
``defaults``, ``validation``, ``lifecycle`` (rules), ``tables``, ``columns`` and ``cells`` (how kinds are printed). Who
may do it is in ``access``, ``accounts`` (tokens of pods) and ``rbac``.

What acts on objects does not belong here: controllers and the kubelet are clients. A new kind goes into ``kinds``.
"""

from __future__ import annotations

from meshbook.lab.apiserver.access import User
from meshbook.lab.apiserver.server import ApiServer

__all__ = ["ApiServer", "User"]
