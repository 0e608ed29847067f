"""Which programs of a real control plane this machine has. Nothing is started or fetched from here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from meshbook.errors import LabError

ASSETS = "KUBEBUILDER_ASSETS"
"""The variable by which setup-envtest says where it has put its programs."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Paths of programs; an empty one means that the lab's own part does its work."""

    apiserver: str
    etcd: str
    controller_manager: str = ""
    scheduler: str = ""

    @property
    def own_controllers(self) -> frozenset[str] | None:
        """Names of the lab's controllers that still have to run; None: all of them."""
        if not self.controller_manager:
            return None
        return frozenset({"loadbalancers"} | ({"scheduler"} if not self.scheduler else set()))


def find(environment: Mapping[str, str]) -> Programs:
    """Look in ``$KUBEBUILDER_ASSETS``, then on ``$PATH``; ``LabError`` when there is no API server or no etcd.

    A kube-scheduler counts only beside a kube-controller-manager, as no cluster has the one without the other.
    """
    found = {name: _which(name, environment) for name in ("kube-apiserver", "etcd")}
    missing = [name for name, path in found.items() if not path]
    if missing:
        raise LabError(
            f"a real API server needs {' and '.join(missing)}, in ${ASSETS} or on PATH",
            hint="setup-envtest use -p env, or the conda packages kubernetes-server and etcd; or --apiserver emulated",
        )
    manager = _which("kube-controller-manager", environment)
    return Programs(
        apiserver=found["kube-apiserver"],
        etcd=found["etcd"],
        controller_manager=manager,
        scheduler=_which("kube-scheduler", environment) if manager else "",
    )


def _which(name: str, environment: Mapping[str, str]) -> str:
    folders = [folder for folder in (environment.get(ASSETS), environment.get("PATH")) if folder]
    return next((path for folder in folders if (path := shutil.which(name, path=folder))), "")
