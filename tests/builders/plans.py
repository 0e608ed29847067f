"""Plans of an outage that was not asked for, and what a load adds to one."""

from __future__ import annotations

from collections.abc import Callable

from meshbook.outage import Check, Plan

Checks = Callable[..., dict[str, Check]]
"""From a load, and limits, to the checks of a step's plan by name."""


def plan(*checks: Check) -> Plan:
    fixed = {"mode": "scale-to-zero", "about": "", "context": "cluster1", "application": "web", "restored_by": ""}
    return Plan(**fixed, changes=(), checks=checks)
