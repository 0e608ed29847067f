"""How many requests a second a closed loop sends, compared with ``curl -Z`` with as many in flight, on the same server.

The server is an Envoy that answers by itself, on one thread of its own. Each round asks it once by curl, from here and
as from a pod, in random order; each is a whole call, from its begin to its last row. ``start`` is the same call for one
request: the time until a sender is ready. Prints for each the median rate and processor time (callers and senders, not
the server), and the median of its ratio to curl in the same round, with the interval that holds it in 95 of 100 cases.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pandas as pd
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).parent))

from localpod import LocalPod

from meshbook import probes
from meshbook.clusters import Fleet
from meshbook.lab.images import ENVOY

TYPE = "type.googleapis.com/envoy.extensions.filters"
WRITE_OUT = "%{http_code}|%{exitcode}|%{time_connect}|%{time_starttransfer}|%{time_total}|%{remote_ip}\\n"
"""What a row of ours holds too."""


def configuration(port: int) -> dict[str, Any]:
    """Return the configuration of an Envoy that answers as the sample does."""
    body = {"inline_string": "Hello version: v1, instance: target\n"}
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}
    manager = {
        "@type": f"{TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "target",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPE}.http.router.v3.Router"}}],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [chain]}]}}


@contextmanager
def server() -> Iterator[str]:
    """Run the Envoy, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [str(ENVOY), "--config-yaml", json.dumps(configuration(port)), "--concurrency", "1", "--disable-hot-restart"]
    with subprocess.Popen([*argv, "--log-level", "error"]) as envoy:
        try:
            url = f"http://127.0.0.1:{port}/hello"
            probes.wait_for_first_answer(url, 10)
            yield url
        finally:
            envoy.kill()


def by_curl(url: str, loop: probes.ClosedLoop) -> int:
    """Ask by one ``curl -Z`` and return how many good answers came."""
    argv = ["curl", "-q", "--silent", "--no-progress-meter", "--http1.1", "--noproxy", "*", "--output", "/dev/null"]
    argv += ["--parallel", "--parallel-immediate", "--parallel-max", str(loop.concurrency), "--write-out", WRITE_OUT]
    argv += ["--header", "Connection: close"]
    done = subprocess.run([*argv, f"{url}#[1-{loop.requests}]"], stdout=subprocess.PIPE, check=True, text=True)
    return sum(line.startswith("200|0|") for line in done.stdout.splitlines())


def from_here(url: str, loop: probes.ClosedLoop) -> int:
    return int((probes.send_many(outside=url, loop=loop)["error"] == "").sum())


def from_pod(url: str, loop: probes.ClosedLoop) -> int:
    pods = cast(Fleet, [LocalPod("pod")])
    return int((probes.send_many(pods, inside=url, loop=loop)["error"] == "").sum())


def processor_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed(ask: Callable[[str, probes.ClosedLoop], int], url: str, loop: probes.ClosedLoop) -> dict[str, float]:
    begun, used = time.monotonic(), processor_s()
    good = ask(url, loop)
    seconds = time.monotonic() - begun
    if good != loop.requests:
        raise SystemExit(f"{good} good answers of {loop.requests}")
    return {"seconds": seconds, "cpu_us": (processor_s() - used) / good * 1e6}


def rounds(url: str, loop: probes.ClosedLoop, times: int) -> Iterator[dict[str, object]]:
    """Yield what each way to ask took, in each round."""
    ways = {"curl -Z": by_curl, "here": from_here, "pod": from_pod}
    one = probes.ClosedLoop(requests=1, concurrency=1)
    for number in range(times):
        for name in random.sample(list(ways), len(ways)):
            start_s = timed(ways[name], url, one)["seconds"]
            yield {"round": number, "who": name, "start_s": start_s, **timed(ways[name], url, loop)}


def summary(found: pd.DataFrame, requests: int) -> pd.DataFrame:
    """Return one row for each way to ask."""
    base = found[found["who"] == "curl -Z"].set_index("round")["seconds"]
    rows = []
    for who, part in found.groupby("who"):
        ratios = (base / part.set_index("round")["seconds"]).sort_values().tolist()
        rank = int(binom.ppf(0.025, len(ratios), 0.5))
        rows.append(
            {
                "who": who,
                "per s": round(requests / part["seconds"].median()),
                "cpu us each": part["cpu_us"].median(),
                "start s": part["start_s"].median(),
                "ratio": pd.Series(ratios).median(),
                "from": ratios[max(0, rank - 1)],
                "to": ratios[-max(1, rank)],
            }
        )
    return pd.DataFrame(rows).round(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--times", type=int, default=9, help="rounds")
    given = parser.parse_args()
    loop = probes.ClosedLoop(requests=given.requests, concurrency=given.concurrency, timeout_s=30.0)
    with server() as url:
        table = summary(pd.DataFrame(rounds(url, loop, given.times)), given.requests)
    sys.stdout.write(f"{table.to_string(index=False)}\n")


if __name__ == "__main__":
    main()
