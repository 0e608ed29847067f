"""Real control planes in place of the emulated one: etcd and kube-apiserver of one cluster, as processes of the lab.

``binaries`` finds the programs, ``arguments`` says how they are started (pure), ``server`` starts them, waits until
they answer and makes the custom kinds known. Kubelet, controllers and istiod are the same as ever: clients over HTTPS.
No behaviour of an API server belongs here; which addresses its objects may carry is told in ``meshbook.lab.topology``.
"""

from __future__ import annotations

from meshbook.lab.realapiserver.binaries import Programs, find
from meshbook.lab.realapiserver.server import RealApiServer

__all__ = ["Programs", "RealApiServer", "find"]
