"""Envoy configuration: data in, plain dicts (Envoy's v3 JSON) out. Nothing here reads, writes, binds or connects.

Who starts an Envoy (the kubelet for pods, the assembly for the global load balancer) needs ``bootstrap`` alone::

    bootstrap.bootstrap(*, node_id: str, admin_address: str, folder: Path) -> dict     # → <folder>/bootstrap.json
    bootstrap.arguments(envoy: str, folder: Path) -> list[str]                         # the command line
    folders.SUBFOLDERS                                                                 # to be made before the start

``lds.json`` and ``cds.json`` must exist before the start; ``bootstrap.EMPTY`` is a good first content (create them with
mode "x": istiod may have been faster). To end an Envoy gently: POST ``/healthcheck/fail`` and then
``/drain_listeners?graceful&skip_exit`` to ``http://<admin address>:15000``, wait ``bootstrap.DRAIN_S``, then SIGTERM.

Who configures the global load balancer needs ``edge`` alone::

    edge.HealthCheck(request_path="/", port=None, interval_s=15, timeout_s=15,
                     healthy_threshold=1, unhealthy_threshold=2)
    edge.Backend(name, endpoints: tuple[tuple[str, int], ...], health_check: HealthCheck)
    edge.Frontend(name, address, port, backend: Backend | None)        # None: being made, answers 404
    edge.files(frontends: Sequence[Frontend], folder: Path) -> dict[str, dict]     # file name → content

Write what ``files`` returns in the order of ``folders.in_order(files)``: each file to a temporary name beside it, then
renamed over the old one, and not at all where the content is the same; afterwards remove files in ``eds/`` that are no
longer in the dict. istiod writes its files in the same way.

Rooms: ``folders`` (file names) · ``elements`` (smallest pieces) · ``tls`` · ``endpoints`` · ``clusters`` · ``routes`` ·
``listeners`` · ``bootstrap`` · ``edge``. A new protocol or policy goes into the room of the xDS resource it changes.
"""
