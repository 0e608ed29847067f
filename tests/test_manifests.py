from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook.errors import UsageError
from meshbook.manifests import load, parse, placed, scaled

TWO = """
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web, service: web}}
---
# only a comment
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-v1, labels: {app: web, version: v1}, annotations: {since: 2023-10-01}}
"""


def _names(objects: list[dict[str, Any]]) -> list[str]:
    return [found["metadata"]["name"] for found in objects]


def test_a_text_gives_its_objects_in_order_with_lists_taken_apart_and_dates_as_text() -> None:
    found = parse(
        TWO + "---\n{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret, metadata: {name: s}}]}"
    )
    assert _names(found) == ["web", "web-v1", "s"]
    assert found[1]["metadata"]["annotations"] == {"since": "2023-10-01"}


def test_a_folder_gives_its_manifests_by_name_and_leaves_out_subfolders_and_kustomizations(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.json", "kustomization.yaml", "notes.txt", "sub/d.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        object_name = Path(name).stem
        (tmp_path / name).write_text(
            f'{{"apiVersion": "v1", "kind": "Secret", "metadata": {{"name": "{object_name}"}}}}'
        )
    assert _names(load(tmp_path)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "not valid YAML", id="broken YAML"),
        pytest.param("{apiVersion: v1, kind: Pod, kind: Job}", "key 'kind' is there twice", id="a key twice"),
        pytest.param("kind: Pod", "without apiVersion and kind", id="no apiVersion"),
        pytest.param("just text", "without apiVersion and kind", id="no mapping"),
        pytest.param("{apiVersion: v1, kind: Pod}", "Pod without metadata.name", id="no name"),
    ],
)
def test_a_manifest_that_cannot_be_read_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse(text, "sample.yaml")
    assert "sample.yaml" in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the manifest"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="holds no manifest"):
        load(tmp_path)


def test_a_selector_picks_objects_by_label_and_must_find_some(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    assert _names(load(path, "app=web, !service")) == ["web-v1"]
    with pytest.raises(UsageError, match="has the labels 'app=none'"):
        load(path, "app=none")


def test_the_namespace_is_set_where_absent_and_refused_where_it_differs() -> None:
    service = parse(TWO)[0]
    assert placed(service, "sample", namespaced=True)["metadata"]["namespace"] == "sample"
    assert "namespace" not in service["metadata"]
    assert placed(service, "", namespaced=True)["metadata"]["namespace"] == "default"
    assert placed(service, "sample", namespaced=False) is service
    with pytest.raises(UsageError, match="Service web says namespace sample, but other"):
        placed(placed(service, "sample", namespaced=True), "other", namespaced=True)


def test_replicas_are_set_in_deployments_alone_and_never_below_none() -> None:
    deployment, service = (
        {"apiVersion": "x", "kind": kind, "metadata": {"name": "a"}, "spec": {}} for kind in ("Deployment", "Service")
    )
    assert scaled(deployment, 3)["spec"] == {"replicas": 3}
    assert scaled(service, 3) == service
    with pytest.raises(UsageError, match="Deployment a cannot have -1 replicas"):
        scaled(deployment, -1)
