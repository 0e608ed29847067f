"""Whole labs, for tests that want one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from meshbook.lab import launch
from meshbook.lab.topology import LabFolder

apiserver = launch.APISERVERS[0]
"""Whose API servers they get; pytest's option of this name says it."""


@contextmanager
def flawless_lab() -> Iterator[launch.LabState]:
    """Give a lab of its own. What went wrong inside, such as a configuration that an Envoy refused, fails its end."""
    with launch.running_lab(launch.Choice(apiserver=apiserver, fast=True)) as lab:
        yield lab
        said = LabFolder(root=lab.root).log.read_text(errors="replace")
        assert lab.alive, said[-3000:]
        assert [line for line in said.splitlines() if " ERROR " in line] == []
