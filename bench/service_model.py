"""A service and its callers as plain arithmetic: who asks when, what goes wrong, and what each caller is told. Pure.

No network and no clock, so ten thousand outages take a minute. The truth is known to the digit, which no real service
offers. ``referee`` holds what ``meshbook.analysis`` reports against it.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from meshbook import tables

EPOCH = 1_767_355_200.0
"""Unix time at which every world begins."""
KINDS = ("frozen", "refused", "black-hole", "late 503", "half refused", "half frozen")
FROZEN = "frozen"
HALF = "half"
_CONNECT_AGAIN_S = (1.0, 3.0, 7.0, 15.0)
"""When a SYN that got lost is sent again."""
_DATA_AGAIN_S = (0.2, 0.6, 1.4, 3.0, 6.2, 12.6)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """The service, or one of its two sides, is down from ``start`` to ``end``, seconds after the world's begin."""

    kind: str
    start: float
    end: float
    hold_s: float = 0.0
    """How long a 503 takes."""

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def is_whole(self) -> bool:
        return not self.kind.startswith(HALF)

    wake_s: float = 0.0
    """How long a service that was frozen takes for its first answer to all those that wait."""

    def holds(self, moment: float) -> bool:
        return self.start <= moment < self.end + (self.wake_s if FROZEN in self.kind else 0.0)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long the service takes when nothing is wrong, in seconds."""

    usual: float
    jitter: float
    """Sigma of its logarithm."""
    tail: float = 0.0
    """Share of requests that take up to ``tail_s`` longer."""
    tail_s: float = 0.0

    def draw(self, dice: random.Random) -> float:
        extra = self.tail_s * dice.random() ** 2 if dice.random() < self.tail else 0.0
        return self.usual * math.exp(dice.gauss(0, self.jitter)) + extra


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that happens to one source of requests."""

    seed: int
    rate: float
    seconds: float
    timeout: float
    sides: tuple[Latency, ...]
    troubles: tuple[Trouble, ...]
    late: float = 0.0
    """Mean lateness of a send, in seconds."""
    vague: float = 0.0
    """Width of the interval in which a request is known to have been sent, at most."""
    clock_error: float = 0.0
    drops: float = 0.0
    """Share of the requests that never left, or of which no record came."""
    pauses: tuple[tuple[float, float], ...] = ()
    """Times for which the sender itself stood still."""
    each_s: float = 0.0002
    """Longest time that a service which is back takes for each request that waits."""
    retried_s: float = 0.0
    """For how long a proxy holds requests of the first side before another one answers them; 0: it does not."""

    @property
    def interval(self) -> float:
        return 1 / self.rate


@dataclass(kw_only=True)
class _Caller:
    world: World
    dice: random.Random = field(init=False)
    thawed: dict[Trouble, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.world.seed)

    def sends(self) -> Iterator[tuple[int, float]]:
        """Yield number and true time of each request that leaves; sends that fall into a pause do so late or not."""
        phase = self.dice.random() * self.world.interval
        for number in range(1, int(self.world.seconds * self.world.rate) + 1):
            due = phase + (number - 1) * self.world.interval
            at = self.awake(due + (self.dice.expovariate(1 / self.world.late) if self.world.late else 0.0))
            if at < due + self.world.interval * 1.5:
                yield number, at

    def awake(self, moment: float) -> float:
        """Return when the sender notices what happens at ``moment``."""
        for start, end in self.world.pauses:
            if start <= moment < end:
                moment = end + self.dice.random() * 0.001
        return moment

    def told(self, number: int, sent: float) -> tuple[float, str, str]:
        """Return what becomes of one request: its end, its error and the version that answered."""
        side = self.dice.randrange(len(self.world.sides))
        took = self.world.sides[side].draw(self.dice)
        if self.world.retried_s and side == 0:
            took += self.world.retried_s
        end, error = self.through(sent, took, self.dice.random(), side)
        patience = sent + self.world.timeout
        if end > patience:
            end, error = patience + self.dice.random() * 0.002, "timeout"
        return self.awake(end), error, "" if error else f"v{side + 1}"

    def through(self, sent: float, took: float, part: float, side: int) -> tuple[float, str]:
        """Return end and error of a request that is served at ``part`` of its way."""
        moment = sent + part * took
        for trouble in self.world.troubles:
            if trouble.holds(moment) and (trouble.is_whole or side == 0):
                return self.caught(trouble, sent, took, moment)
        return sent + took, ""

    def caught(self, trouble: Trouble, sent: float, took: float, moment: float) -> tuple[float, str]:
        if "refused" in trouble.kind:
            return sent + took, "refused"
        if "503" in trouble.kind:
            return sent + took + trouble.hold_s * self.dice.random(), "http_503"
        if FROZEN in trouble.kind:
            awake = max(moment, self.thawed.get(trouble, trouble.end + trouble.wake_s))
            alive = trouble.end - sent < self.world.timeout
            self.thawed[trouble] = awake + (self.dice.random() * self.world.each_s if alive else 0.0)
            return awake + sent + took - moment, ""
        again = _CONNECT_AGAIN_S if self.dice.random() < 0.7 else _DATA_AGAIN_S
        later = (sent + pause for pause in again)
        through = next((at for at in later if not any(each.holds(at) for each in self.world.troubles)), math.inf)
        return through + took, ""


def rows(world: World) -> list[dict[str, object]]:
    """Return what the sources' rows of ANSWERS say; the source's name is the world's seed."""
    caller, dice = _Caller(world=world), random.Random(-world.seed)
    offset = world.clock_error * dice.uniform(-1, 1)
    return [
        _row(world, number, sent + offset, caller.told(number, sent), offset, dice) for number, sent in caller.sends()
    ]


def _row(
    world: World, number: int, sent: float, told: tuple[float, str, str], offset: float, dice: random.Random
) -> dict[str, object]:
    end, error, version = told
    before, after = (dice.random() * world.vague for _ in range(2))
    unknown = dice.random() < world.drops
    middle = sent + (after - before) / 2
    return {
        "seq": number,
        "time": None if unknown else datetime.fromtimestamp(EPOCH + middle, UTC),
        "source": str(world.seed),
        "path": "vip",
        "version": "" if unknown else version,
        "time_total_ms": (end + offset - sent) * 1000,
        "error": tables.LOST if unknown else error,
        "time_error_ms": (before + after) / 2 * 1000,
        "clock_error_ms": world.clock_error * 1000,
    }


def world(seed: int, kinds: Sequence[str] = KINDS, *, clean: bool = False) -> World:
    """Return the world of ``seed``: calm at first, then one to three troubles; ``clean`` is one, and a fine sender."""
    dice = random.Random(seed)
    rate = math.exp(dice.uniform(math.log(2), math.log(200)))
    timeout = dice.choice((0.2, 0.5, 1.0, 1.0, 1.0, 2.5))
    usual = math.exp(dice.uniform(math.log(0.0005), math.log(0.08 * timeout)))
    sides = [Latency(usual=usual, jitter=dice.uniform(0.02, 0.5))]
    if dice.random() < 0.4:
        sides.append(Latency(usual=usual * dice.uniform(1, 4), jitter=dice.uniform(0.02, 0.5)))
    if not clean and dice.random() < 0.4:
        tail = {"tail": dice.choice((0.002, 0.02)), "tail_s": timeout * dice.uniform(0.1, 0.7)}
        sides = [Latency(usual=side.usual, jitter=side.jitter, **tail) for side in sides]
    fine: dict[str, float] = {} if clean else _roughness(dice, 1 / rate)
    count = 1 if clean else dice.choice((0, 1, 1, 1, 2, 3))
    each_s = dice.choice((0.0002, 0.002))
    troubles = tuple(_troubles(dice, kinds, count, [min(rate * timeout, 400) * each_s, 60 / rate]))
    seconds = max((trouble.end for trouble in troubles), default=100 / rate) + 60 / rate
    if not clean and dice.random() < 0.05:
        seconds -= 70 / rate
    paused = not clean and dice.random() < 0.3
    starts = [dice.uniform(0, seconds) for _ in range(3 if paused else 0)]
    return World(
        seed=seed,
        rate=rate,
        seconds=max(seconds, 4 / rate),
        timeout=timeout,
        sides=tuple(sides),
        troubles=troubles,
        each_s=each_s,
        pauses=tuple((start, start + math.exp(dice.uniform(-4.5, 1))) for start in sorted(starts)),
        retried_s=0.0 if clean or troubles or dice.random() < 0.8 else timeout * dice.uniform(0.1, 0.6),
        **fine,
    )


def _roughness(dice: random.Random, interval: float) -> dict[str, float]:
    return {
        "late": dice.choice((0.0, 0.001, 0.01, 0.3 * interval)),
        "vague": dice.choice((0.0, 0.002, 0.02, interval)),
        "clock_error": dice.choice((0.0, 0.001, 0.05)),
        "drops": dice.choice((0.0, 0.0, 0.02, 0.1)),
    }


def _troubles(dice: random.Random, kinds: Sequence[str], count: int, settling: Sequence[float]) -> Iterator[Trouble]:
    """Yield ``count`` troubles; ``settling`` is how long the answers to all who wait take, and the calm before."""
    queue_s, calm = settling
    at = calm * dice.choice((0.0, 1.0, 1.0, 1.0, 1.0)) if count > 1 else calm * dice.uniform(0.8, 1.0)
    for _ in itertools.repeat(None, count):
        length = math.exp(dice.uniform(math.log(0.02), math.log(5)))
        queue = min(1.0, length) * queue_s
        hold_s, wake_s = dice.choice((0.0, 0.1, 3.0)), dice.random() * queue / 4
        yield Trouble(kind=dice.choice(kinds), start=at, end=at + length, hold_s=hold_s, wake_s=wake_s)
        at += length + queue_s + math.exp(dice.uniform(math.log(0.005), math.log(3)))
