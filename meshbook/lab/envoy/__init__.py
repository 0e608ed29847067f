"""Envoy: what it is told, as plain dicts (its v3 JSON), and the folder by which it learns of it.

- Who starts an Envoy: ``prepare_envoy`` makes its folder and returns the command line. To end it gently: POST
  ``/healthcheck/fail`` and then ``/drain_listeners?graceful&skip_exit`` to its admin port, wait ``DRAIN_S``, SIGTERM.
- Who says what it serves: make ``Resources``, and ``write_resources`` into its folder. ``load_balancer`` makes those of
  the global load balancer; istiod makes those of pods with ``clusters`` and ``listeners``.

``folder`` alone reads and writes; ``clusters``, ``listeners``, ``edge`` and ``elements`` (what they share) are pure. A
new protocol or policy goes into the module of the xDS resource that it changes.
"""

from meshbook.lab.envoy.clusters import Endpoint, Locality
from meshbook.lab.envoy.edge import NOT_READY_BODY, UNHEALTHY_BODY, Backend, Frontend, HealthCheck, load_balancer
from meshbook.lab.envoy.folder import DRAIN_S, ProxyFolder, Resources, prepare_envoy, write_resources

__all__ = [
    "DRAIN_S",
    "NOT_READY_BODY",
    "UNHEALTHY_BODY",
    "Backend",
    "Endpoint",
    "Frontend",
    "HealthCheck",
    "Locality",
    "ProxyFolder",
    "Resources",
    "load_balancer",
    "prepare_envoy",
    "write_resources",
]
