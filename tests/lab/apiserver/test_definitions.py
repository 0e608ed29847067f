"""A CustomResourceDefinition that a user applies is served, as those of Istio and Google are."""

from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.apiserver.cells import at
from meshbook.lab.apiserver.definitions import definition_of, kind_of
from meshbook.lab.apiserver.kinds import CUSTOM_KINDS, Kind

Json = dict[str, Any]
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WIDGETS = "/apis/example.org/v1/namespaces/default/widgets"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def definition(**version: Any) -> Json:
    properties = {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": properties}}
    names = {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema} | version]
    spec = {"group": "example.org", "scope": "Namespaced", "names": names, "versions": versions}
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    return head | {"metadata": {"name": "widgets.example.org"}, "spec": spec}


def widget(name: str = "one", **more: Any) -> Json:
    return {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": 3}} | more


@pytest.mark.parametrize("kind", CUSTOM_KINDS, ids=lambda kind: str(kind.kind))
def test_a_kind_and_its_definition_say_the_same(kind: Kind) -> None:
    assert kind_of(definition_of(kind)) == kind


async def test_an_applied_definition_is_established_and_served(api: Any) -> None:
    assert (await api("GET", WIDGETS)).code == 404
    made = await api.made(DEFINITIONS, definition())
    conditions = {found["type"]: found["status"] for found in made["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    await api.made(WIDGETS, widget())
    assert (await api("GET", f"{WIDGETS}/one")).body["spec"] == {"size": 3}
    resources = (await api("GET", "/apis/example.org/v1")).body["resources"]
    assert [(found["name"], found["shortNames"]) for found in resources] == [("widgets", ["wd"])]


async def test_its_columns_are_those_of_the_definition(api: Any) -> None:
    columns = [
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    ]
    await api.made(DEFINITIONS, definition(additionalPrinterColumns=columns))
    ready = {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]}
    await api.made(WIDGETS, widget(status=ready))
    table = (await api("GET", WIDGETS, headers={"Accept": TABLE})).body
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Ready"]
    assert table["rows"][0]["cells"] == ["one", 3, "True"]


@pytest.mark.parametrize(
    ("path", "kind", "shown"),
    [(".spec.hosts", "string", '["*"]'), (".spec.missing.more", "string", None), (".spec.hosts[0]", "string", "*")],
)
def test_a_cell_shows_what_stands_at_its_path(path: str, kind: str, shown: str) -> None:
    assert at(path, kind)({"spec": {"hosts": ["*"]}}) == shown


async def test_with_the_definition_its_objects_go(api: Any) -> None:
    await api.made(DEFINITIONS, definition())
    version = (await api.made(WIDGETS, widget()))["metadata"]["resourceVersion"]
    async with api.watching(WIDGETS, resourceVersion=version) as watcher:
        assert (await api("DELETE", f"{DEFINITIONS}/widgets.example.org")).code == 200
        assert await watcher.names(1) == [("DELETED", "one")]
    assert (await api("GET", WIDGETS)).code == 404


async def test_fields_beside_spec_are_kept_where_the_schema_says_so(api: Any) -> None:
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    await api.made(DEFINITIONS, definition(schema=anything))
    assert (await api.made(WIDGETS, widget(data={"a": "b"})))["data"] == {"a": "b"}


async def test_a_definition_without_names_or_of_another_name_is_refused(api: Any) -> None:
    nameless, misnamed = definition(), definition()
    del nameless["spec"]["names"]
    assert "spec.names: Required value" in (await api("POST", DEFINITIONS, nameless)).message
    misnamed["metadata"]["name"] = "widgets.other.org"
    assert "must be spec.names.plural" in (await api("POST", DEFINITIONS, misnamed)).message


async def test_istios_kinds_are_defined_from_the_start(api: Any) -> None:
    names = [found["metadata"]["name"] for found in (await api("GET", DEFINITIONS)).body["items"]]
    assert "virtualservices.networking.istio.io" in names
    assert "multiclusteringresses.networking.gke.io" in names
