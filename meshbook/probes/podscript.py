"""What runs inside a pod to send requests on schedule: a script for any POSIX shell beside curl 7.84 or newer.

Only the text, and what it hears and tells; ``lanes`` decides its arguments and reads what it tells. It needs no program
but ``curl`` and ``sleep``: its clock is the shell's own where it has one (busybox), else ``/proc/uptime``.

A request leaves on every beat, whatever earlier ones do. Request n belongs to lane n modulo STEP, and a lane's turn
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
"""

from __future__ import annotations

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
