"""What a pod's sender is told, what runs there, and how its lines are read. Pure; the talk itself is ``pod_session``'s.

A request leaves on every tick, whatever earlier ones do. Request n belongs to lane n modulo STEP, and a lane's turn
comes again only when its last request must have ended. A lane is one curl for BATCH requests, paced by its ``--rate``,
and then another one, on schedule again; one process for each request would cost ten times as much. A curl is started
ahead of its time and held until it is told its URL, so that its start delays nothing.

- Arguments: ``URL#NONCE-``, STEP, BATCH, the time between two requests in µs, the number of turns over which the lanes
  begin (many curls started at once would all be late), the last request, then curl's own argv.
- It hears ``clock TOKEN`` (answered at once), ``go BEGIN FIRST`` (request FIRST leaves at BEGIN, in ms of its clock,
  the others after it) and ``stop``. The end of its input ends it too, so nothing goes on when the caller has died.
- It tells ``H TIME OWN`` (ready; OWN is 1 when it leads a process group), ``C TIME TOKEN``, ``L LANE TIME FIRST END``
  (a curl is about to be let go), ``D LANE TIME N`` (N is left out, its time has passed), ``O LANE TIME TEXT`` (a line
  that curl wrote). TIME is when the line was made or read.

curl can stamp no request before its version 8.16, so each is known to have left within an interval. Not before its
curl was started, plus the pace that this curl kept for each request before it; and not after its record was read, less
the time that the request took. The script needs no program but ``curl`` and ``sleep``: its clock is the shell's own
where it has one (busybox), else ``/proc/uptime``.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from meshbook.probes.curl import Ask, command, last_words, records
from meshbook.probes.schedule import Schedule

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
class Lanes:
    """How a pod keeps a schedule: lanes that take turns, each one curl for many requests."""

    gap_us: int
    timeout_s: float

    @property
    def gap_s(self) -> float:
        return self.gap_us / 1e6

    @property
    def count(self) -> int:
        """Lanes needed so that none is still busy with its last request when its turn comes again."""
        return max(1, math.ceil((self.timeout_s + SPARE_S) / self.gap_s))

    @property
    def turns(self) -> int:
        """Turns over which the lanes begin, so that not all of their curls are started at once."""
        return max(1, math.ceil(_START_S / self.gap_s))

    @property
    def warm_up(self) -> int:
        """Requests sent before the first that counts, while lanes are still being started."""
        return self.count * self.turns if self.turns > 1 else 0

    @property
    def batch(self) -> int:
        """Requests of one curl."""
        batch_s = max(_BATCH_S, self.count * 2 * _START_S)
        return max(1, int(batch_s / (self.count * self.gap_s)))

    @property
    def lead_s(self) -> float:
        """Seconds that a pod needs between hearing the request and the first request that counts."""
        return _LEAD_S + (self.warm_up * self.gap_s or self.count * _START_S)

    def ask(self, url: str) -> Ask:
        """Return one curl of a lane, as ``curl`` has it, set to a pace that keeps it on schedule in truth."""
        pace_s = max(self.count * self.gap_s - _BEHIND_S, _BEHIND_S)
        return Ask(url=url, requests=1, timeout_s=self.timeout_s, rate_per_s=1 / pace_s)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A lane's curl, started not before ``at`` for the requests ``numbers``."""

    at: float
    numbers: range


@dataclass(kw_only=True)
class PodReport:
    """What one run of the script told, line by line; numbers count from 1 and include the warm-up."""

    lanes: Lanes
    requests: int
    ask: Ask
    tick_s: float = 0.0
    dropped: set[int] = field(default_factory=set)
    _launches: dict[int, list[Launch]] = field(default_factory=lambda: defaultdict(list))
    _lines: dict[int, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, schedule: Schedule, url: str) -> PodReport:
        lanes = Lanes(gap_us=schedule.gap_us, timeout_s=schedule.timeout_s)
        return cls(lanes=lanes, requests=schedule.requests, ask=lanes.ask(url))

    def argv(self) -> list[str]:
        """Return the command that sends from a pod."""
        lanes, last = self.lanes, self.lanes.warm_up + self.requests
        *curl, target = command(self.ask)
        mark = target[: target.rindex("[")]
        numbers = map(str, (lanes.count, lanes.batch, lanes.gap_us, lanes.turns, last))
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
                numbers = range(first, end + 1, self.lanes.count)
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


SCRIPT = r"""mark=$1 step=$2 batch=$3 gap=$4 turns=$5 last=$6
shift 6
if [ -n "$EPOCHREALTIME" ]; then
now() { t=$EPOCHREALTIME; part=${t#*.}; ms=$((${t%.*} * 1000 + 1${part%???} - 1000)); }
else
now() { read -r t part </proc/uptime; ms=$((${t%.*} * 1000 + (1${t#*.} - 100) * 10)); }
fi
look() { now; ahead=$((begin + (n - first) * gap / 1000 - ms)); }
rest() { [ "$1" -le 0 ] || { part=$((1000 + $1 % 1000)); sleep "$(($1 / 1000)).${part#1}"; }; }
release() {
look
rest "$ahead"
now
printf 'L %s %s %s %s\n' "$lane" "$t" "$n" "$end" >&3
printf 'url = %s[%s-%s:%s]\n' "$mark" "$n" "$end" "$by"
}
lane() {
lane=$1 n=$1
shift
while [ "$n" -le "$last" ]; do
look
rest $((ahead - 1000))
if [ "$ahead" -lt "-$((step * gap / 1000))" ]; then
printf 'D %s %s %s\n' "$lane" "$t" "$n"
n=$((n + step))
continue
fi
end=$((n + (batch - 1) * step)) by=$step
[ "$end" -le "$last" ] || end=$((n + (last - n) / step * step))
[ "$end" -gt "$n" ] || by=1
release | "$@" --config - 2>&1 | while IFS= read -r line || [ -n "$line" ]; do
now
printf 'O %s %s %.3800s\n' "$lane" "$t" "$line"
done
n=$((end + step))
done
}
exec 3>&1
read -r _ _ _ _ group _ </proc/$$/stat
[ "$group" = $$ ] && own=1 || own=0
now
printf 'H %s %s\n' "$t" "$own"
while read -r word one two; do
case $word in
clock)
now
printf 'C %s %s\n' "$t" "$one" ;;
go)
begin=$one first=$two lanes='' i=0
while [ "$i" -lt "$step" ]; do
lane $((first + i + step * (i % turns))) "$@" &
lanes="$lanes $!" i=$((i + 1))
done ;;
stop)
break ;;
esac
done
trap '' TERM
if [ "$own" = 1 ]; then kill -TERM 0; else kill $lanes 2>/dev/null; fi
exit 0
"""
