"""The control plane's client tells in the server's words why a request was refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from meshbook.lab.client import PODS, ApiError, Client

PODS_PATH = "GET /api/v1/namespaces/default/pods"


async def _list(client: Client) -> None:
    await client.list(PODS, "default")


async def _watch(client: Client) -> None:
    async for _ in client.watch(PODS, "1", namespace="default"):
        pass


async def _refused(url: str, ask: Callable[[Client], Coroutine[Any, Any, None]]) -> ApiError:
    config = {
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": url}}],
        "users": [{"name": "one", "user": {}}],
    }
    client = Client.from_config(config, "one")
    try:
        with pytest.raises(ApiError) as caught:
            await ask(client)
        return caught.value
    finally:
        await client.close()


@pytest.mark.parametrize("ask", [_list, _watch])
@pytest.mark.parametrize("code", [400, 403, 500, 503])
def test_a_refusal_keeps_code_reason_and_words(background: Any, scripted: Any, code: int, ask: Any) -> None:
    scripted.script[PODS_PATH] = [(code, {"kind": "Status", "message": "the webhook is away", "reason": "Why"})]
    error = background.run(_refused(scripted.url, ask))
    assert (error.code, error.reason) == (code, "Why")
    assert "the webhook is away" in str(error)
    assert len([line for line in scripted.asked if line.startswith(PODS_PATH)]) == 1


def test_a_server_that_does_not_answer_is_told_apart_from_one_that_refuses(background: Any) -> None:
    error = background.run(_refused("http://127.0.0.1:9", _list))
    assert error.code == 0
    assert "no answer" in str(error)
