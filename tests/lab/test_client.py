"""The control plane's client tells in the server's words why a request was refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.client import PODS, ApiError, Client

VERSION = {"GET /version/": [{"major": "1", "minor": "32", "gitVersion": "v1.32.0"}]}
PODS_PATH = "GET /api/v1/namespaces/default/pods/"


@pytest.mark.parametrize("code", [400, 403, 500, 503])
def test_a_refusal_keeps_code_reason_and_words(
    background: Any, scripted: Any, kubeconfig: Callable[..., str], code: int
) -> None:
    scripted.script |= VERSION
    scripted.script[PODS_PATH] = [(code, {"kind": "Status", "message": "the webhook is away", "reason": "Why"})]
    error = background.run(_refused(kubeconfig({"one": scripted.url}), lambda client: client.list(PODS, "default")))
    assert (error.code, error.reason) == (code, "Why")
    assert "the webhook is away" in str(error)
    assert len([line for line in scripted.asked if line.startswith(PODS_PATH)]) == 1


def test_a_refused_watch_says_why(background: Any, scripted: Any, kubeconfig: Callable[..., str]) -> None:
    scripted.script |= VERSION
    scripted.script[PODS_PATH] = [(500, {"kind": "Status", "message": "not today"})]

    async def follow(client: Client) -> None:
        async for _ in client.watch(PODS, "1", namespace="default"):
            pass

    error = background.run(_refused(kubeconfig({"one": scripted.url}), follow))
    assert (error.code, "not today" in str(error)) == (500, True)


async def _refused(kubeconfig: str, ask: Callable[[Client], Coroutine[Any, Any, Any]]) -> ApiError:
    path = Path(kubeconfig)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"current-context": "one"}))
    client = await Client.connect(path, "one")
    try:
        with pytest.raises(ApiError) as caught:
            await ask(client)
        return caught.value
    finally:
        await client.close()
