"""Why sources are not answered: looked at before an outage, which is refused for it, and after one.

What is looked at is ``mesh``'s, what the answers prove is in ``verdicts``.
"""

from __future__ import annotations

import pandas as pd

from meshbook import mesh
from meshbook.experiment.plan import Target
from meshbook.experiment.results import Results
from meshbook.mesh import Finding

_WORTH_TELLING = ("cause", "not looked at")


def silent_ways(target: Target, answers: pd.DataFrame) -> list[Finding]:
    """Return what keeps clusters from answering those who asked, in pods and from outside; causes first."""
    found = mesh.why(target.fleet, target.inside, answers, namespace=target.namespace)
    outside = answers[answers["source"].isin([entry.source for entry in target.outside])]
    where = {"namespace": target.namespace, "gateway_namespace": target.gateway_namespace}
    return found + mesh.why_outside(target.fleet, target.outside, outside, **where)


def causes(results: Results, target: Target) -> list[Finding]:
    """Return why sources are not answered by all clusters since the last outage, for ``mesh.explained``.

    Empty where all are; what was mended meanwhile cannot be looked at any more.
    """
    if not results.trials:
        return []
    last = results.trials[-1]
    after = last.answers[last.answers["time"] > last.ready_again]
    return [one for one in silent_ways(target, after) if one.state in _WORTH_TELLING]
