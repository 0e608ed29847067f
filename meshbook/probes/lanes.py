"""What a pod's sender is told and how its lines are read: pure. The script is ``podscript``, the talk ``streams``.

curl can stamp no transfer before its version 8.16, so each request is known to have left within an interval. Not before
its curl was started, plus the pace that this curl kept for each request before it; and not after its record was read,
less the time that the transfer took.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from meshbook.probes.curl import Ask, command, last_words, records
from meshbook.probes.podscript import SCRIPT

SPARE_S = 0.2
"""Seconds between a request's time-out and its lane's next turn."""
_BATCH_S = 10.0
"""Seconds after which a lane starts its curl anew, or longer: what it is off schedule adds up."""
_BEHIND_S = 0.001
"""Seconds by which a curl falls behind its ``--rate`` with each request."""
_LEAD_S = 0.6
_START_S = 0.05
"""Seconds between the first starts of two curls: a start costs ten times as much as a request."""


@dataclass(frozen=True, kw_only=True)
class Beat:
    """The pace of a stream: ``requests`` of them, ``gap_us`` apart, each with ``timeout_s`` to end."""

    gap_us: int
    timeout_s: float
    requests: int

    @property
    def gap_s(self) -> float:
        return self.gap_us / 1e6

    @property
    def lanes(self) -> int:
        """Lanes needed so that none is still busy with its last request when its turn comes again."""
        return max(1, math.ceil((self.timeout_s + SPARE_S) / self.gap_s))

    @property
    def turns(self) -> int:
        """Turns over which the lanes begin, so that not all of their curls are started at once."""
        return max(1, math.ceil(_START_S / self.gap_s))

    @property
    def warm_up(self) -> int:
        """Requests sent before the first that counts, while lanes are still being started."""
        return self.lanes * self.turns if self.turns > 1 else 0

    @property
    def batch(self) -> int:
        """Requests of one curl."""
        batch_s = max(_BATCH_S, self.lanes * 2 * _START_S)
        return max(1, int(batch_s / (self.lanes * self.gap_s)))

    @property
    def lead_s(self) -> float:
        """Seconds that a pod needs between hearing the order and the first request that counts."""
        return _LEAD_S + (self.warm_up * self.gap_s or self.lanes * _START_S)

    def ask(self, url: str) -> Ask:
        """Return one curl of a lane, as ``curl`` has it, set to a pace that keeps it on schedule in truth."""
        pace_s = max(self.lanes * self.gap_s - _BEHIND_S, _BEHIND_S)
        return Ask(url=url, requests=1, timeout_s=self.timeout_s, rate_per_s=1 / pace_s)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A lane's curl, started not before ``at`` for the requests ``numbers``."""

    at: float
    numbers: range


@dataclass(kw_only=True)
class PodReport:
    """What one run of the script told, line by line; numbers count from 1 and include the warm-up."""

    beat: Beat
    ask: Ask
    tick_s: float = 0.0
    dropped: set[int] = field(default_factory=set)
    _launches: dict[int, list[Launch]] = field(default_factory=lambda: defaultdict(list))
    _lines: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, beat: Beat, url: str) -> PodReport:
        return cls(beat=beat, ask=beat.ask(url))

    def argv(self) -> list[str]:
        """Return the command that sends from a pod."""
        beat, last = self.beat, self.beat.warm_up + self.beat.requests
        *curl, target = command(self.ask)
        mark = target[: target.rindex("[")]
        numbers = map(str, (beat.lanes, beat.batch, beat.gap_us, beat.turns, last))
        return ["/bin/sh", "-c", SCRIPT, "sh", mark, *numbers, *curl]

    def stamp(self, text: str) -> float:
        """Return a time that the script told, in seconds; how fine its clock is shows in the number of digits."""
        self.tick_s = max(self.tick_s, 10.0 ** -len(text.partition(".")[2]))
        return float(text)

    def take(self, line: str) -> None:
        """Take one line of the kinds L, D and O; one that was cut is passed over, and its requests become ``lost``."""
        kind, _, rest = line.partition(" ")
        try:
            lane, at, words = rest.split(" ", 2)
            if kind == "O":
                self._lines[int(lane)].append((self.stamp(at), words))
            elif kind == "L":
                first, end = map(int, words.split(" "))
                numbers = range(first, end + 1, self.beat.lanes)
                self._launches[int(lane)].append(Launch(at=self.stamp(at), numbers=numbers))
            elif kind == "D":
                self.dropped.add(int(words))
        except ValueError:
            return

    def ended(self) -> Iterator[tuple[int, dict[str, object]]]:
        """Yield (number, row) of each request whose record came; ``time`` is a pair of bounds by the pod's clock."""
        for lane, lines in list(self._lines.items()):
            text = "\n".join(words for _, words in lines)
            found = records(text, self.ask, [at + self.tick_s for at, _ in lines])
            for launch in list(self._launches[lane]):
                yield from self._bounded(launch, found)

    def _bounded(self, launch: Launch, found: dict[int, dict[str, object]]) -> Iterator[tuple[int, dict[str, object]]]:
        pace_s = math.floor(86_400_000 / self.ask.per_day) / 1000
        latest = math.inf
        for place, number in reversed(list(enumerate(launch.numbers))):
            row = found.get(number, {})
            latest -= pace_s
            if "time" in row:
                latest = min(cast(float, row["time"]), latest)
                row = {**row, "time": (min(launch.at + place * pace_s, latest), latest)}
            if row:
                yield number, row

    @property
    def last_words(self) -> str:
        """What curl or the shell said last that is no record, such as ``sh: curl: not found``."""
        said = [line for lines in list(self._lines.values()) for line in lines]
        return last_words("\n".join(words for _, words in sorted(said)), self.ask)
