"""What is special about a container that is an Envoy: what must lie in its folder before it starts, and how it ends.

What Envoy serves is written into the same folder by istiod; see ``meshbook.lab.envoy.folders``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from meshbook.lab.envoy import bootstrap, folders
from meshbook.lab.topology import PROXY_ADMIN_PORT

ADMIN_TIMEOUT = aiohttp.ClientTimeout(total=0.5)


def prepare(folder: Path, pod: Mapping[str, Any], pod_ip: str) -> None:
    """Make the folder of a pod's Envoy; files that istiod has written already stay."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in folders.SUBFOLDERS:
        (folder / name).mkdir(exist_ok=True)
    node_id = f"{pod['metadata']['name']}.{pod['metadata']['namespace']}"
    content = bootstrap.bootstrap(node_id=node_id, admin_address=pod_ip, folder=folder)
    (folder / folders.BOOTSTRAP).write_text(json.dumps(content))
    for name in (folders.LISTENERS, folders.CLUSTERS):
        with contextlib.suppress(FileExistsError), (folder / name).open("x") as file:
            json.dump(bootstrap.EMPTY, file)


def arguments(envoy: str, folder: Path) -> tuple[str, ...]:
    return tuple(bootstrap.arguments(envoy, folder))


async def drain(pod_ip: str, http: aiohttp.ClientSession) -> None:
    """Ask a pod's Envoy to tell its clients that it leaves. An Envoy that does not answer has nothing to tell."""
    admin = f"http://{pod_ip}:{PROXY_ADMIN_PORT}"
    with contextlib.suppress(TimeoutError, OSError, aiohttp.ClientError):
        for path in ("/healthcheck/fail", "/drain_listeners?graceful&skip_exit"):
            async with http.post(admin + path, timeout=ADMIN_TIMEOUT) as response:
                await response.read()
