"""What was claimed and what came out. Written by ``judge``."""

from __future__ import annotations

from meshbook.tables.columns import declared

VERDICTS = declared(
    "verdicts",
    ("claim", "string", "what was claimed"),
    ("outcome", "string", "pass, fail or inconclusive"),
    ("n", "Int64", "requests that the verdict rests on"),
    ("estimate", "float64", "measured value, in ``unit``"),
    ("low", "float64", "lower end of its interval"),
    ("high", "float64", "upper end of its interval"),
    ("limit", "string", "what the interval was held against"),
    ("unit", "string", "unit of estimate, low and high"),
    ("reason", "string", "why this outcome, in a sentence"),
)
