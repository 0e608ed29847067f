"""Tables (``meta.k8s.io/v1``), which ``kubectl get`` prints. Which kind has which columns is in ``columns``. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from meshbook.lab.apiserver.columns import columns_of
from meshbook.lab.apiserver.kinds import Json, Kind
from meshbook.lab.apiserver.store import Stored


def table(kind: Kind, entries: Sequence[Stored], revision: str, include: str, *, with_columns: bool = True) -> Json:
    """Return the Table of ``entries``; ``include`` says how much of each object goes along (Metadata, Object, None)."""
    columns = columns_of(kind)
    rows = [{"cells": [c.cell(e.object) for c in columns], "object": _embedded(e.object, include)} for e in entries]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": revision},
        "columnDefinitions": [column.definition() for column in columns] if with_columns else None,
        "rows": rows,
    }


def _embedded(obj: Json, include: str) -> Json | None:
    if include == "None":
        return None
    if include == "Object":
        return obj
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}
