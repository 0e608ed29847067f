from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meshbook.lab.kubelet.sidecars import drain, prepare


def test_a_proxy_finds_its_bootstrap_and_empty_resources(specs: Any, tmp_path: Path) -> None:
    folder = tmp_path / "proxies" / "web-0"
    prepare(folder, specs.pod(), "127.64.11.5")
    bootstrap = json.loads((folder / "bootstrap.json").read_text())
    assert bootstrap["admin"]["address"]["socket_address"]["address"] == "127.64.11.5"
    assert bootstrap["node"]["id"] == "web-0.sample"
    assert json.loads((folder / "lds.json").read_text())["resources"] == []
    assert (folder / "eds").is_dir()


def test_what_istiod_has_written_before_stays(specs: Any, tmp_path: Path) -> None:
    (tmp_path / "lds.json").write_text("by istiod")
    prepare(tmp_path, specs.pod(), "127.64.11.5")
    assert (tmp_path / "lds.json").read_text() == "by istiod"


async def test_a_proxy_is_made_unhealthy_and_then_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def admin(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path_qs}")
        return web.Response(text="OK")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", admin)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setattr("meshbook.lab.kubelet.sidecars.PROXY_ADMIN_PORT", runner.addresses[0][1])
    async with aiohttp.ClientSession() as http:
        await drain("127.0.0.1", http)
        await runner.cleanup()
        await asyncio.wait_for(drain("127.0.0.1", http), 2)
    assert asked == ["POST /healthcheck/fail", "POST /drain_listeners?graceful&skip_exit"]
