"""Which pod has which address. An address rests for a while before it is given away again.

Without the rest, a client that has not yet heard of a pod's end could reach another pod under its address.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from meshbook.errors import LabError
from meshbook.lab.topology import ClusterTopology

CAPACITY = 250
REST_S = 60.0


class AddressPool:
    """The pod addresses of one cluster, given out in turn. ``clock`` counts seconds."""

    def __init__(
        self, cluster: ClusterTopology, *, rest_s: float = REST_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._rest_s = rest_s
        self._clock = clock
        self._taken: dict[str, int] = {}
        self._released: dict[int, float] = {}
        self._next = 0

    def take(self, uid: str) -> str:
        """Return the address of the pod ``uid``, the same one each time until it is released."""
        if uid not in self._taken:
            self._taken[uid] = self._free()
        return self._cluster.pod_address(self._taken[uid])

    def release(self, uid: str) -> None:
        """Let the pod's address rest, and then go to another pod."""
        if uid in self._taken:
            self._released[self._taken.pop(uid)] = self._clock()

    def _free(self) -> int:
        """Return the next number that nobody has and that has rested; failing that, the one that rested longest."""
        taken = set(self._taken.values())
        turn = [number % CAPACITY for number in range(self._next, self._next + CAPACITY)]
        free = [number for number in turn if number not in taken]
        if not free:
            raise LabError(f"{self._cluster.name} has no pod address left: {CAPACITY} pods run on its node")
        rested = next((number for number in free if self._has_rested(number)), None)
        number = min(free, key=self._released.__getitem__) if rested is None else rested
        self._next = number + 1
        self._released.pop(number, None)
        return number

    def _has_rested(self, number: int) -> bool:
        released = self._released.get(number)
        return released is None or self._clock() - released >= self._rest_s
