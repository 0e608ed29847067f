"""Envoy: what it is told, as plain dicts (its v3 JSON), and how one is started.

- Who starts an Envoy: ``prepare_envoy`` writes the bootstrap of a ``Node`` and returns the command line. To end it
  gently: POST ``/healthcheck/fail`` and then ``/drain_listeners?graceful&skip_exit`` to its admin port, wait
  until its clients have heard, SIGTERM.
- Who says what it serves: make ``Resources``, and publish them on a ``discovery`` server. ``load_balancer`` makes those
  of the global load balancer; istiod makes those of pods with ``clusters`` and ``listeners``.

``bootstrap`` alone writes; ``resources``, ``clusters``, ``listeners``, ``edge`` and ``elements`` (what they share) are
pure. A new protocol or policy goes into the module of the resource that it changes.
"""

from meshbook.lab.envoy.bootstrap import Node, node_token, prepare_envoy
from meshbook.lab.envoy.clusters import Endpoint, Locality
from meshbook.lab.envoy.edge import NOT_READY_BODY, UNHEALTHY_BODY, Backend, Frontend, HealthCheck, load_balancer
from meshbook.lab.envoy.elements import workload_secrets
from meshbook.lab.envoy.resources import (
    CLUSTER,
    KINDS,
    LISTENER,
    LOAD_ASSIGNMENT,
    ROUTE_CONFIGURATION,
    SECRET,
    Resources,
)

__all__ = [
    "CLUSTER",
    "KINDS",
    "LISTENER",
    "LOAD_ASSIGNMENT",
    "NOT_READY_BODY",
    "ROUTE_CONFIGURATION",
    "SECRET",
    "UNHEALTHY_BODY",
    "Backend",
    "Endpoint",
    "Frontend",
    "HealthCheck",
    "Locality",
    "Node",
    "Resources",
    "load_balancer",
    "node_token",
    "prepare_envoy",
    "workload_secrets",
]
