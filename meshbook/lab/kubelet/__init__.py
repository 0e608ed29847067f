"""One node of a cluster: runs pods as real processes of this machine and tells the API server what became of them.

The kubelet is a client of the API over HTTP, as a real one is, and serves exec and logs over HTTPS on its node's
address.

===============  ==========================================================================
``agent``        the Kubelet: follows the pods of its node, one worker each
``pods``         the life of one pod, from address to removal
``containers``   the life of one container: start, restart, stop
``execution``    what a container or an exec runs: program, arguments, environment
``credentials``  what a pod finds of the API: token, root certificate, address
``sidecars``     what is special about Envoy: its bootstrap, and draining
``lifecycle``    decisions about pods and containers (pure)
``status``       container states to a pod's status (pure)
``health``       a container's probes and what follows from them
``probes``       what to ask, when, and what the answers mean
``addresses``    pod addresses, and when one may be used again
``logs``         what containers wrote, and how it is asked for
``server``       the HTTPS server; ``channels`` is the protocol of its exec
``node``         the Node object and its heartbeat
``processes``    the only room that spawns; ``guardian`` and ``pipes`` serve it
===============  ==========================================================================

A new behaviour of pods goes to ``lifecycle`` when it can be decided from data, to ``pods`` or ``containers`` when it
cannot.
"""

from meshbook.lab.kubelet.agent import Kubelet

__all__ = ["Kubelet"]
