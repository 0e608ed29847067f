"""What happened when in an outage: what API servers showed, and the phases made of it. Written by ``timeline``."""

from __future__ import annotations

from meshbook.tables.columns import declared

CHANGES = declared(
    "sightings",
    ("context", "string", "cluster whose API server showed it"),
    ("subject", "string", "endpoints, pods, replicas, or api (whether it answers)"),
    ("before", "string", "what it was like until then"),
    ("after", "string", "what it was like from then on"),
    ("not_before", "datetime64[us, UTC]", "it was still as before at this moment"),
    ("not_after", "datetime64[us, UTC]", "it had changed by this moment"),
    ("seen_by", "string", "watch (at once) or list (asked again and again)"),
)

PHASES = declared(
    "phases",
    ("mode", "string", "kind of failure"),
    ("context", "string", "cluster that was taken away, or a part of it"),
    ("trial", "Int64", "which time it was done, from 1"),
    ("number", "Int64", "number of the row, from 1"),
    ("part", "string", "'outage' or 'restore'"),
    ("phase", "string", "what happened"),
    ("place", "string", "who saw it: an API server, or a source of requests"),
    ("not_before", "datetime64[us, UTC]", "it happened at this moment at the earliest; missing: it was not seen"),
    ("not_after", "datetime64[us, UTC]", "it happened at this moment at the latest"),
    ("low_s", "float64", "seconds from the order of its part at the least"),
    ("high_s", "float64", "seconds from the order of its part at the most"),
    ("detail", "string", "who or how many, or why there is no time"),
)
