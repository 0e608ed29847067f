"""One node of a cluster: runs pods as real processes of this machine and tells the API server what became of them.

The kubelet is a client of the API over HTTP, as a real one is, and serves exec and logs over HTTPS on its node's
address.

================  =========================================================================
``agent``         the Kubelet: follows the pods of its node, one worker each
``node``          the Node object and its heartbeat
``pods``          the life of one pod, from address to removal
``containers``    the life of one container: start, restart, stop
``context``       what a node lends to its pods, and a pod to its containers
``execution``     what a container or an exec runs: program, arguments, environment, files
``probes``        what is asked of a container, and what follows from the answers
``status``        what containers do → a pod's status, and its events (pure)
``logs``          what containers wrote, and how it is asked for
``server``        the HTTPS server: exec and logs
``serviceproxy``  what becomes of packets to a load balancer without pods
``processes``     the only module that spawns; ``reaper`` sees to it that nothing survives
================  =========================================================================

No object but a Node, its Lease, a pod's status and Events is written here: everything else is the controllers'.
"""

from meshbook.lab.kubelet.agent import Kubelet
from meshbook.lab.kubelet.containers import Container
from meshbook.lab.kubelet.context import ADDRESSES, CAPACITY, AddressPool, NodeContext, Timing
from meshbook.lab.kubelet.execution import CannotRun, is_proxy, program_of
from meshbook.lab.kubelet.pods import Pod
from meshbook.lab.kubelet.probes import Probe, Prober
from meshbook.lab.kubelet.processes import Process, ProcessTable, SpawnError, Streams, base_environment
from meshbook.lab.kubelet.reaper import marked
from meshbook.lab.kubelet.server import KubeletServer
from meshbook.lab.kubelet.serviceproxy import abandoned
from meshbook.lab.kubelet.status import PodEvent

__all__ = [
    "ADDRESSES",
    "CAPACITY",
    "AddressPool",
    "CannotRun",
    "Container",
    "Kubelet",
    "KubeletServer",
    "NodeContext",
    "Pod",
    "PodEvent",
    "Probe",
    "Prober",
    "Process",
    "ProcessTable",
    "SpawnError",
    "Streams",
    "Timing",
    "abandoned",
    "base_environment",
    "is_proxy",
    "marked",
    "program_of",
]
