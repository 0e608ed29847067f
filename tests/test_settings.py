from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshbook.errors import UsageError
from meshbook.settings import context_names, kubeconfig_path


def _file(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    return str(path)


def test_contexts_come_from_the_parameter_before_the_environment() -> None:
    variables = {"CTX_CLUSTER1": "bm", "CTX_CLUSTER2": "gke"}
    assert context_names(["a", "b", "c"], variables) == ("a", "b", "c")
    assert context_names([], variables) == ("bm", "gke")
    assert context_names([], {}) == ("cluster1", "cluster2")


@pytest.mark.parametrize(
    ("contexts", "environment", "message"),
    [
        pytest.param(["a", "b", "a"], {}, "named twice: a", id="the same context twice"),
        pytest.param("cluster1", {}, "list of names", id="a text in place of a list"),
        pytest.param(["a", ""], {}, "has no name", id="an empty name"),
        pytest.param([], {"CTX_CLUSTER1": "bm"}, "CTX_CLUSTER2 is not set", id="half of the article's variables"),
    ],
)
def test_contexts_that_do_not_fit_are_refused(contexts: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        context_names(contexts, environment)


def test_the_kubeconfig_is_the_given_one_then_the_environments_then_the_labs_then_kubectls(tmp_path: Path) -> None:
    given, set_one = _file(tmp_path / "given"), _file(tmp_path / "set")
    home = tmp_path / "home"
    environment = {"HOME": str(home), "KUBECONFIG": set_one}
    assert kubeconfig_path(given, environment) == given
    assert kubeconfig_path("", environment) == set_one
    default = _file(home / ".kube" / "config")
    assert kubeconfig_path("", {"HOME": str(home)}) == default
    lab = _file(home / ".meshbook" / "kubeconfig")
    assert kubeconfig_path("", {"HOME": str(home)}) == lab


def test_several_kubeconfig_files_are_kept_as_one_setting(tmp_path: Path) -> None:
    both = os.pathsep.join([str(tmp_path / "missing"), _file(tmp_path / "there")])
    assert kubeconfig_path("", {"KUBECONFIG": both}) == both


def test_a_missing_kubeconfig_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="meshbook lab up"):
        kubeconfig_path("", {"HOME": str(tmp_path)})


def test_a_relative_kubeconfig_is_the_one_of_this_folder_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _file(tmp_path / "kc.yaml")
    monkeypatch.chdir(tmp_path)
    both = os.pathsep.join(["./kc.yaml", "sub/other"])
    whole = os.pathsep.join([str(tmp_path / "kc.yaml"), str(tmp_path / "sub/other")])
    assert kubeconfig_path("", {"KUBECONFIG": both}) == kubeconfig_path(both, {}) == whole


def test_nobody_needs_a_home_where_a_kubeconfig_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    given = _file(tmp_path / "given")
    assert kubeconfig_path("", {"KUBECONFIG": given}) == given
    with pytest.raises(UsageError, match="no kubeconfig at"):
        kubeconfig_path("", {})
