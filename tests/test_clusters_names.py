"""What people call clusters: as given, else a short form of the context, none of them twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from meshbook.clusters import Fleet, display_names
from meshbook.errors import ClusterError, UsageError

GKE = "gke_my-project-123456_asia-northeast1-a_prod-cluster"
EKS = "arn:aws:eks:ap-northeast-1:123456789012:cluster/prod"


@pytest.mark.parametrize(
    ("contexts", "names"),
    [
        (["cluster2", "cluster1"], ["cluster2", "cluster1"]),
        ([GKE, EKS], ["prod-cluster", "prod"]),
        (
            ["gke_acme_us-east1_prod", "gke_acme_us-west1_prod", "connectgateway_acme_global_b"],
            ["us-east1_prod", "us-west1_prod", "global_b"],
        ),
        (["gke_acme_us-east1_prod", "gke_acme2_us-east1_prod"], ["us-east1_prod", "us-east1_prod #2"]),
        (["gke_acme-of-a-long-name_us-east1_prod", "projects/acme/locations/l/memberships/c"], ["us-east1_prod", "c"]),
        (["me/host:6443", "a,\nb"], ["me/host\N{NO-BREAK SPACE}6443", "a\N{NO-BREAK SPACE}b"]),
        (["a b", "a,b"], ["a\N{NO-BREAK SPACE}b", "a\N{NO-BREAK SPACE}b #2"]),
        ([GKE, GKE.replace("-a_", "-b_")], ["asia-nort…a_prod-cluster", "asia-nort…b_prod-cluster"]),
    ],
    ids=["lab", "two clouds", "regions", "projects", "membership", "parted", "the same", "zones"],
)
def test_a_context_is_called_by_a_short_form_that_no_other_has_and_no_project_is_in(
    contexts: list[str], names: list[str]
) -> None:
    assert display_names(contexts) == dict(zip(contexts, names, strict=True))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"c3": "x"}, "no context 'c3'"),
        ({"c1": "x", "c2": "x"}, "'x' of c1 is the name of another cluster"),
        ({"c1": "c2"}, "'c2' of c[12] is the name of another"),
        ({"c1": "x" * 25}, "1 to 24 printable signs"),
        ({"c1": " "}, "1 to 24 printable signs"),
        ({"c1": "a\nb"}, "1 to 24 printable signs"),
        ({"c1": "a", "c2": "a "}, "no space at an end"),
        ({"c1": "a; b"}, "none of them , : ;"),
    ],
    ids=["no such context", "twice", "another's context", "long", "empty", "line break", "space", "several"],
)
def test_a_name_that_cannot_tell_its_cluster_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        display_names(["c1", "c2"], given)


def test_a_name_stands_in_words_and_the_context_in_commands(kubeconfig: Callable[[dict[str, str]], str]) -> None:
    path = kubeconfig({GKE: "http://127.0.0.1:1", EKS: "http://127.0.0.1:2"})
    fleet = Fleet.named([GKE, EKS], path, {GKE: "ニフクラ"})
    assert [cluster.name for cluster in fleet] == ["ニフクラ", "prod"]
    assert fleet["ニフクラ"] is fleet[GKE]
    spaced = Fleet.named([GKE, EKS], path, {GKE: "GKE <prod>"})
    assert spaced["GKE <prod>"] is spaced[spaced.clusters[0].name]
    assert fleet[GKE].kubectl_options[-2:] == ["--context", GKE]
    with pytest.raises(ClusterError, match=r"^no answer from ニフクラ"):
        fleet[GKE].version()
    assert fleet[GKE].reopened().name == "ニフクラ"
