"""The injection webhook: HTTPS in front of ``injection``. No Kubernetes client, no state."""

from __future__ import annotations

import json
import ssl

from aiohttp import web

from meshbook.lab.istiod import injection
from meshbook.lab.topology import WEBHOOK_PORT, ClusterTopology

MAX_REVIEW_BYTES = 4 * 1024 * 1024


class Webhook:
    """Serves ``/inject`` on the istiod address of one cluster."""

    def __init__(self, cluster: ClusterTopology, tls: ssl.SSLContext) -> None:
        self._cluster = cluster
        self._tls = tls
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=MAX_REVIEW_BYTES)
        app.router.add_post("/inject", self._inject)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._cluster.istiod_address, WEBHOOK_PORT, ssl_context=self._tls)
        await site.start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            answer = injection.review(await request.json(), self._cluster.name, self._cluster.network)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            return web.Response(status=400, text=f"not an AdmissionReview of a pod: {error!r}")
        return web.json_response(answer)
