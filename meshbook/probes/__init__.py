"""The article's curl as a probe: requests from pods and from this machine, one row of ``tables.ANSWERS`` each.

- ``curl``: what one curl is asked, and how its records are read; pure.
- ``sending``: one curl for many requests, from the sleep pods and from here.
- ``settling``: the wait until every client has seen every version.
- ``watching``: requests in the background, and the wait for a first good answer.

Whether the rows are good news is for ``judge``. A new place to send from goes to ``sending``, a new field to ``curl``.
"""

from __future__ import annotations

from meshbook.probes.curl import Ask, command, parse
from meshbook.probes.sending import MESH, OUTSIDE, VIP, curl_from_here, curl_from_pods
from meshbook.probes.settling import Settled, wait_for_versions
from meshbook.probes.watching import FirstAnswer, Watch, wait_for_first_answer, watch_from_here

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
    "watch_from_here",
]
