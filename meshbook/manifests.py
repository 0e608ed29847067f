"""YAML to objects: read files and folders, select by label as ``kubectl -l`` does, set the namespace.

Nothing is sent from here (``clusters`` does that), and which kinds have a namespace is the cluster's to say, so
``placed`` is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from meshbook.errors import UsageError
from meshbook.objects import Object, label_selector, labels_of
from meshbook.settings import OWNER_LABEL

SUFFIXES = (".yaml", ".yml", ".json")
KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
"""Read by ``kubectl apply -k`` and no object of any cluster."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: dates stay text, and a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.MarkedYAMLError(problem=f"key {twice[0]!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: str | Path, selector: str = "") -> list[Object]:
    """Return the objects of a file, or of a folder's manifests in the order of their names (not of its subfolders).

    ``selector`` picks them by label, as ``kubectl -l`` does; UsageError when it picks none.
    """
    matches = label_selector(selector)
    found = [obj for file, text in texts(path).items() for obj in parse(text, str(file)) if matches(labels_of(obj))]
    if selector and not found:
        raise UsageError(f"nothing in {path} has the labels {selector!r}")
    return found


def texts(path: str | Path) -> dict[Path, str]:
    """Return a file, or a folder's manifests, with what stands in each."""
    path = Path(path).expanduser()
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.name not in KUSTOMIZATIONS)
        if not files:
            raise UsageError(f"the folder {path} holds no manifest ({', '.join(SUFFIXES)})")
    try:
        return {file: file.read_text(encoding="utf-8") for file in files}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the manifest {path}: {error}") from error


def arguments(path: str | Path, selector: str) -> list[str]:
    """Return what tells kubectl the objects of a file or folder."""
    kustomized = any((Path(path) / name).exists() for name in KUSTOMIZATIONS)
    return ["-k" if kustomized else "-f", str(path), *(["-l", selector] if selector else [])]


def parse(text: str, source: str = "manifest") -> list[Object]:
    """Return the objects of a YAML or JSON text; ``List`` objects are taken apart. ``source`` is for errors."""
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not valid YAML: {error}") from error
    return [found for document in documents for found in _objects(document, source)]


def _objects(document: Any, source: str) -> list[Object]:
    if not isinstance(document, dict) or not all(isinstance(document.get(key), str) for key in ("apiVersion", "kind")):
        raise UsageError(f"{source} holds a document without apiVersion and kind: {str(document)[:80]}")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        return [found for item in document["items"] for found in _objects(item, source)]
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise UsageError(f"{source} holds a {document['kind']} without metadata.name")
    return [document]


def title(found: Object) -> str:
    """Return ``Kind name`` of an object, for messages."""
    return f"{found['kind']} {found['metadata']['name']}"


def placed(found: Object, namespace: str, *, namespaced: bool) -> Object:
    """Return a copy of the object in ``namespace``; one that names another namespace is refused, as by kubectl."""
    own = found["metadata"].get("namespace", "")
    if not namespaced:
        return found
    if own and namespace and own != namespace:
        raise UsageError(f"{title(found)} says namespace {own}, but {namespace} was asked for")
    return {**found, "metadata": {**found["metadata"], "namespace": own or namespace or "default"}}


def is_owned(found: Object) -> bool:
    """Tell whether meshbook made an object."""
    return OWNER_LABEL.items() <= labels_of(found).items()


def scaled(found: Object, replicas: int) -> Object:
    """Return a copy of the object with so many ``replicas``, where it is a Deployment."""
    if replicas < 0:
        raise UsageError(f"{title(found)} cannot have {replicas} replicas", hint="0 or more")
    return {**found, "spec": {**found["spec"], "replicas": replicas}} if found["kind"] == "Deployment" else found
