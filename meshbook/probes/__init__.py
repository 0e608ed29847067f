"""Requests from pods and from this machine, one row of ``tables.ANSWERS`` each.

- ``curl``: what one curl is asked, and how its records are read; pure.
- ``sending``: the article's loop: one curl for many requests, from the sleep pods and from here.
- ``settling``, ``answering``: the waits until every client has seen every version, and until an address answers.
- ``watching``: an open loop from everywhere at once, on one schedule. Its sources are ``streams`` (here, by the program
  ``sender``) and ``podstreams`` (in pods, by the script in ``podscript``); ``schedule``, ``lanes`` and ``exchange`` are
  the pure parts: when, how a pod is told and read, and how far its clock is off.

Whether the rows are good news is for ``judge``, how long a service was away for ``windows``. A new place to send from
goes to ``sending`` or is a new stream, a new field goes to ``curl``.
"""

from __future__ import annotations

from meshbook.probes.answering import FirstAnswer, wait_for_first_answer
from meshbook.probes.curl import Ask, command, parse
from meshbook.probes.sending import MESH, OUTSIDE, VIP, curl_from_here, curl_from_pods
from meshbook.probes.settling import Settled, wait_for_versions
from meshbook.probes.watching import Watch, watch, watch_from_here

__all__ = [
    "MESH",
    "OUTSIDE",
    "VIP",
    "Ask",
    "FirstAnswer",
    "Settled",
    "Watch",
    "command",
    "curl_from_here",
    "curl_from_pods",
    "parse",
    "wait_for_first_answer",
    "wait_for_versions",
    "watch",
    "watch_from_here",
]
