"""The mesh: who answered whom by which way, what its proxies logged, and what saved the requests.

ACCESS is read by ``experiment``, the others are made by ``analysis``.
"""

from __future__ import annotations

from meshbook.tables.frames import declared
from meshbook.tables.requests import WAY

COVERAGE = declared(
    "coverage",
    *WAY,
    ("part", "string", "'before' an outage, 'during' or 'after' it"),
    ("cluster", "string", "whose pods should have answered"),
    ("version", "string", "the version there"),
    ("n", "Int64", "requests with a result: each could have been answered by that cluster"),
    ("good", "Int64", "good answers of that cluster's pods"),
    ("state", "string", "'proven', 'refuted', 'undecided' (too few), 'not tested', or 'none expected' (and none came)"),
)

ACCESS = declared(
    "access",
    ("time", "datetime64[us, UTC]", "when the proxy got the request, by its own clock"),
    ("context", "string", "cluster of the proxy"),
    ("pod", "string", "pod of the proxy"),
    ("role", "string", "sidecar or gateway"),
    ("hop", "string", "outbound (on behalf of a client), inbound, passthrough (east-west), or unrouted"),
    ("path", "string", "path of the request; empty where the proxy saw none"),
    ("code", "Int64", "HTTP status that the proxy answered with; missing for a connection without HTTP"),
    ("flags", "string", "Envoy's response flags; empty where nothing was amiss"),
    ("details", "string", "Envoy's response code details"),
    ("attempts", "Int64", "how many times the request was sent on; missing where the log does not tell"),
    ("upstream", "string", "same network or other network; empty where it was sent to nobody"),
    ("service", "string", "host name of the service that it was for, as far as the log names one"),
    ("duration_ms", "float64", "until the last byte of the answer"),
    ("request_id", "string", "the request's own name, the same at every proxy on its way"),
)

ATTRIBUTION = declared(
    "attribution",
    ("layer", "string", "what can save a request: endpoints, clients' proxies, gateways, the load balancer"),
    ("context", "string", "in which cluster"),
    ("requests", "Int64", "requests for the service that its proxies sent on during the outage"),
    ("at_once", "Int64", "good answers without a second try; missing where the log does not count tries"),
    ("by_retry", "Int64", "good answers after more than one try; missing where the log does not count tries"),
    ("not_saved", "Int64", "requests without a good answer"),
    ("to_other", "Int64", "good answers from the other network, through its east-west gateway"),
    ("did", "string", "what it did, in words"),
    ("known_by", "string", "where that is known from, and what is not known"),
)
