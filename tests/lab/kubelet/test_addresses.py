from __future__ import annotations

import pytest

from meshbook.errors import LabError
from meshbook.lab.kubelet.addresses import CAPACITY, AddressPool
from meshbook.lab.topology import LabTopology


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pool(topology: LabTopology, clock: Clock) -> AddressPool:
    return AddressPool(topology.clusters[0], rest_s=60, clock=clock)


def test_a_pod_keeps_its_address(pool: AddressPool) -> None:
    assert pool.take("a") == pool.take("a") != pool.take("b")


def test_an_address_is_not_used_again_while_others_are_free(pool: AddressPool) -> None:
    seen = set()
    for number in range(CAPACITY):
        seen.add(pool.take(str(number)))
        pool.release(str(number))
    assert len(seen) == CAPACITY


def test_an_address_is_used_again_after_its_rest(pool: AddressPool, clock: Clock) -> None:
    first = pool.take("a")
    pool.release("a")
    for number in range(CAPACITY - 1):
        pool.take(str(number))
    clock.now = 61
    assert pool.take("b") == first


def test_when_all_free_ones_rest_the_most_rested_is_used(pool: AddressPool, clock: Clock) -> None:
    for number in range(CAPACITY):
        pool.take(str(number))
    longest = pool.take("7")
    pool.release("7")
    clock.now = 1
    pool.release("3")
    assert pool.take("a") == longest


def test_a_full_node_refuses_a_pod(pool: AddressPool) -> None:
    for number in range(CAPACITY):
        pool.take(str(number))
    with pytest.raises(LabError, match="no pod address left"):
        pool.take("one more")


def test_releasing_twice_or_a_stranger_changes_nothing(pool: AddressPool) -> None:
    pool.take("a")
    pool.release("stranger")
    pool.release("a")
    pool.release("a")
    assert pool.take("b")
