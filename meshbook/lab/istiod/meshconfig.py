"""The mesh's own configuration, as the ConfigMap ``istio-REVISION`` of the system namespace has it. Pure.

Understood of ``mesh``: ``accessLogFile`` (``/dev/stdout``, or none), ``accessLogEncoding`` and ``accessLogFormat``. The
rest is as in Istio when nobody sets it. A new field of the mesh goes here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from meshbook.lab.envoy.elements import ACCESS_LOG_JSON, ACCESS_LOG_TEXT, Json, access_log
from meshbook.lab.topology import REVISION

CONFIG_MAP = f"istio-{REVISION}"
_KEY = "mesh"
_STDOUT = "/dev/stdout"


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """What holds for all proxies of a mesh."""

    access_log: Sequence[Json] = field(default_factory=access_log)


def mesh_config(config_map: Mapping[str, Json] | None) -> MeshConfig:
    """Return what the ConfigMap says; ``ValueError`` where it cannot be understood."""
    try:
        said = yaml.safe_load(((config_map or {}).get("data") or {}).get(_KEY, "")) or {}
        file, encoding = said.get("accessLogFile", ""), said.get("accessLogEncoding", "TEXT")
        given = said.get("accessLogFormat", "")
    except (yaml.YAMLError, AttributeError) as error:
        raise ValueError(f"ConfigMap {CONFIG_MAP}: {_KEY} is no mesh configuration: {error}") from error
    if file not in ("", _STDOUT):
        raise ValueError(f"ConfigMap {CONFIG_MAP}: accessLogFile is {_STDOUT} or empty, not {file!r}")
    if not file:
        return MeshConfig(access_log=())
    if encoding == "JSON":
        return MeshConfig(access_log=access_log(json=_names(given) if given else ACCESS_LOG_JSON))
    line = f"{given}".rstrip("\n") + "\n"  # Istio ends it, where it does not end by itself
    return MeshConfig(access_log=access_log(line if given else ACCESS_LOG_TEXT))


def _names(given: str) -> dict[str, str]:
    """Return what is logged under each name."""
    found = json.loads(f"{given}")
    if not isinstance(found, dict):
        raise ValueError(f"ConfigMap {CONFIG_MAP}: with accessLogEncoding JSON, accessLogFormat is a JSON object")
    return {name: f"{text}" for name, text in found.items()}
