"""Custom kinds: from a CustomResourceDefinition to the ``Kind`` that is served, and back for Istio's and Google's.

Pure. Schemas are kept and not applied: objects of custom kinds are taken as they come, in every version alike. Of the
subresources there is ``status`` only.
"""

from __future__ import annotations

from meshbook.lab.apiserver.kinds import Json, Kind, Printed

_ANYTHING: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
TOP_LEVEL = {"apiVersion", "kind", "metadata", "spec", "status"}


def kind_of(definition: Json) -> Kind:
    """Return the kind that a definition describes; the stored version comes first."""
    spec, names = definition["spec"], definition["spec"]["names"]
    served = sorted((version for version in spec["versions"] if version["served"]), key=lambda v: not v["storage"])
    stored = next(version for version in spec["versions"] if version["storage"])
    return Kind(
        group=spec["group"],
        versions=tuple(version["name"] for version in served),
        kind=names["kind"],
        plural=names["plural"],
        short=tuple(names.get("shortNames", ())),
        namespaced=spec["scope"] == "Namespaced",
        subresources=("status",) if "status" in (stored.get("subresources") or {}) else (),
        custom=True,
        counts_generations=True,
        categories=tuple(names.get("categories", ())),
        shape="Object" if _properties(stored) <= TOP_LEVEL else "Custom",
        printed=tuple(map(_printed, stored.get("additionalPrinterColumns", ()))),
    )


def _properties(version: Json) -> set[str]:
    """Return what may stand at the top of an object; anything, where the schema does not say."""
    schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
    return {"*"} if schema.get("x-kubernetes-preserve-unknown-fields") else set(schema.get("properties", {"*": {}}))


def _printed(column: Json) -> Printed:
    return Printed(column["name"], column["jsonPath"], column.get("type", "string"), column.get("priority", 0) > 0)


def definition_of(kind: Kind) -> Json:
    """Return the definition by which a cluster would know ``kind``."""
    schema = {"type": "object", "properties": {"spec": _ANYTHING, "status": _ANYTHING}}
    columns = [{"name": p.name, "jsonPath": p.path, "type": p.type} for p in kind.printed]
    versions = [
        {"name": name, "served": True, "storage": name == kind.versions[0], "schema": {"openAPIV3Schema": schema}}
        | {"subresources": {"status": {}}}
        | ({"additionalPrinterColumns": columns} if columns else {})
        for name in kind.versions
    ]
    names: Json = {"kind": kind.kind, "plural": kind.plural, "shortNames": list(kind.short)}
    names |= {"categories": list(kind.categories)} if kind.categories else {}
    spec = {"group": kind.group, "scope": "Namespaced", "names": names, "versions": versions}
    head: Json = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return head | {"metadata": {"name": kind.qualified}, "spec": spec}
