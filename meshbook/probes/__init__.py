"""Requests from pods and from this machine, one row of ``tables.ANSWERS`` each.

- ``curl``: the article's loop, from the sleep pods and from here; ``records`` says what curl is told, and reads it.
- ``waits``: until an address answers, and until every client has seen every version.
- ``open_loop``: requests on one schedule from everywhere at once; ``closed_loop``: as fast as they go. ``source`` says
  who sends, ``session`` runs the program ``sender`` for it, ``clock_sync`` tells how far a pod's clock is off.
- ``outcomes``: what became of requests, kept by columns.

Whether the rows are good news, and how long a service was unavailable, is for ``analysis``.
"""

from __future__ import annotations

from meshbook.probes.clock_sync import Exchange, compare
from meshbook.probes.closed_loop import ClosedLoop, send_many
from meshbook.probes.curl import MESH, curl_from_here, curl_from_pods, curl_gateways, curl_program
from meshbook.probes.open_loop import Watch, watch
from meshbook.probes.outcomes import printed
from meshbook.probes.records import Ask, command, parse_records
from meshbook.probes.session import run_here
from meshbook.probes.waits import FirstAnswer, Settled, wait_for_first_answer, wait_for_first_answers, wait_for_versions
from meshbook.tables import OUTSIDE

__all__ = [
    "MESH",
    "OUTSIDE",
    "Ask",
    "ClosedLoop",
    "Exchange",
    "FirstAnswer",
    "Settled",
    "Watch",
    "command",
    "compare",
    "curl_from_here",
    "curl_from_pods",
    "curl_gateways",
    "curl_program",
    "parse_records",
    "printed",
    "run_here",
    "send_many",
    "wait_for_first_answer",
    "wait_for_first_answers",
    "wait_for_versions",
    "watch",
]
