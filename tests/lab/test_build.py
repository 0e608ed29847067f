"""Real API servers are made once by an ordinary go build; what breaks leaves nothing half. A stand-in plays Go."""

from __future__ import annotations

import fcntl
import re
from pathlib import Path

import pytest

from meshbook.errors import LabError
from meshbook.lab import build
from meshbook.lab.realapiserver import find

MODULE = Path(build.__file__).with_name("kubernetes")
GO = """#!/bin/sh
[ "$1" = env ] && echo {version} && exit
echo "$GOCACHE $GOTOOLCHAIN $GOFLAGS $PWD $*" >>{log}
echo "k8s.io/some/package" >&2
while [ "$1" != -o ]; do shift; done
[ "${{2##*/}}" = "{broken}" ] && echo "no space left on device" >&2 && exit 1
printf '#!/bin/sh\\n' >"$2" && chmod +x "$2"
"""


@pytest.fixture
def said() -> list[str]:
    return []


def _environment(tmp_path: Path, version: str = "go1.99.0", broken: str = "") -> dict[str, str]:
    (tmp_path / "bin").mkdir(exist_ok=True)
    go = tmp_path / "bin" / "go"
    go.write_text(GO.format(version=version, log=tmp_path / "calls", broken=broken))
    go.chmod(0o755)
    return {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def _build(environment: dict[str, str], said: list[str]) -> Path:
    return build.build(environment, lambda text, passing: None if passing else said.append(text))


def test_a_build_makes_all_programs_once_and_the_lab_finds_them(tmp_path: Path, said: list[str]) -> None:
    environment = _environment(tmp_path)
    made = _build(environment, said)
    assert {path.name for path in made.iterdir()} == set(build.PACKAGES)
    assert [path.name for path in made.parent.iterdir()] == [made.name], "its caches are gone"
    assert _build(environment, said) == made
    assert said[-1] == f"they are there already: {made}"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == len(build.PACKAGES)
    assert all(f"-mod=readonly -modcacherw {MODULE} build" in call for call in calls)
    programs = find(environment)
    assert programs.apiserver == str(made / "kube-apiserver")
    assert programs.own_controllers == {"scheduler", "loadbalancers"}


def test_programs_that_are_installed_come_before_those_that_were_built(tmp_path: Path, said: list[str]) -> None:
    environment = _environment(tmp_path)
    _build(environment, said)
    for name in ("kube-apiserver", "etcd"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / name).chmod(0o755)
    programs = find(environment)
    assert (programs.apiserver, programs.controller_manager) == (str(tmp_path / "bin" / "kube-apiserver"), "")


def test_a_build_that_breaks_says_what_go_said_leaves_nothing_half_and_can_be_done_again(
    tmp_path: Path, said: list[str]
) -> None:
    environment = _environment(tmp_path, broken="kube-apiserver")
    with pytest.raises(LabError, match="go build of kube-apiserver failed with exit code 1") as error:
        _build(environment, said)
    assert "no space left on device" in str(error.value)
    assert not build.folder(environment).exists()
    with pytest.raises(LabError, match="needs kube-apiserver and etcd"):
        find(environment)
    assert _build(_environment(tmp_path), said).is_dir()


def test_two_builds_at_once_are_refused(tmp_path: Path, said: list[str]) -> None:
    work = tmp_path / "cache" / "meshbook" / "building"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="another build is at work"):
            _build(_environment(tmp_path), said)


@pytest.mark.parametrize("version", ["go1.20.1", ""])
def test_a_go_that_is_too_old_is_named_with_the_one_that_is_needed(
    tmp_path: Path, said: list[str], version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere" / "python"))
    with pytest.raises(LabError, match=r"Go 1\.26\.0 or newer is needed") as error:
        _build(_environment(tmp_path, version=version), said)
    assert "go is " + version in str(error.value)
    with pytest.raises(LabError, match="no go on PATH"):
        _build({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}, said)


def test_go_mod_pins_one_version_of_kubernetes_and_names_what_is_built() -> None:
    text = (MODULE / "go.mod").read_text()
    tools = re.search(r"tool \((.*?)\)", text, re.DOTALL)
    assert tools
    assert sorted(tools[1].split()) == sorted(build.PACKAGES.values())
    version = re.search(r"k8s\.io/kubernetes v1\.(\S+)", text)
    assert version
    assert set(re.findall(r"=> k8s\.io/\S+ v0\.(\S+)", text)) == {version[1]}
    required = set(re.findall(r"^\t(\S+ v\S+)", text, re.MULTILINE))
    summed = {
        " ".join(line.split()[:2]).removesuffix("/go.mod") for line in (MODULE / "go.sum").read_text().splitlines()
    }
    replaced = dict(re.findall(r"^\t(\S+) => \S+ (\S+)$", text, re.MULTILINE))
    unpinned = {one for one in required if one not in summed and one.split()[0] not in replaced}
    assert not unpinned
