"""The first line says where a run takes place, when and by whom."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from meshbook import mesh
from meshbook.place import clusters_text, moment_text, place_of, place_text


def cluster(context: str, **changed: Any) -> dict[str, Any]:
    found = mesh.Place(
        name=context, context=context, user="", lab=False, provider="", kubernetes="v1.33.1", mesh=("asm-1175-9",)
    )
    return asdict(found) | changed


def test_clusters_of_a_lab_are_called_one_and_what_they_share_is_said_once() -> None:
    place = place_of([cluster("cluster1", lab=True), cluster("cluster2", lab=True)])
    told = "LAB (emulated clusters on this machine): cluster1, cluster2 · Kubernetes 1.33.1, mesh asm-1175-9"
    assert clusters_text(place) == told
    assert place_text(place).startswith(f"{told} · 20")
    assert f" · by {place['user']} · meshbook {place['meshbook']}" in place_text(place)


def test_clusters_that_differ_are_told_one_by_one() -> None:
    gke = cluster("gke_p_z_c", name="gke", provider="Google Cloud", kubernetes="v1.34.0-gke.1", user="alice")
    told = clusters_text(place_of([cluster("nifc"), gke]))
    assert told == (
        "nifc (Kubernetes 1.33.1, mesh asm-1175-9), "
        "gke (Google Cloud, Kubernetes 1.34.0-gke.1, mesh asm-1175-9, as alice)"
    )


def test_times_are_told_with_their_zone() -> None:
    assert moment_text("2026-01-31T18:45:00+09:00") == "2026-01-31 18:45:00 UTC+09:00"
    assert moment_text("2026-01-31T09:45:00+00:00") == "2026-01-31 09:45:00 UTC"
