"""Files reach an Envoy whole, in a safe order, and only when they differ."""

from __future__ import annotations

import os
from pathlib import Path

from meshbook.lab.envoy import folders
from meshbook.lab.istiod import certificates, distribution
from meshbook.lab.pki import Authority


def test_what_is_referred_to_is_written_before_what_refers_to_it() -> None:
    names = ["lds.json", "rds/outbound.json", "cds.json", "eds/a.json", "root-abc.pem", "cert-abc.pem"]
    assert folders.in_order(names) == ["cert-abc.pem", "root-abc.pem", *reversed(names[:4])]


def test_files_that_are_the_same_are_not_touched(tmp_path: Path) -> None:
    first = {"cds.json": {"resources": []}, "rds/a.json": {"resources": [1]}}
    assert distribution.write(tmp_path, first) == ["cds.json", "rds/a.json"]
    inode = (tmp_path / "cds.json").stat().st_ino
    assert distribution.write(tmp_path, first | {"rds/a.json": {"resources": [2]}}) == ["rds/a.json"]
    assert (tmp_path / "cds.json").stat().st_ino == inode


def test_files_are_replaced_by_new_ones_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    folder = tmp_path / "proxy"
    distribution.write(folder, {"cds.json": {"resources": []}})
    with (folder / "cds.json").open() as old:
        distribution.write(folder, {"cds.json": {"resources": [1]}})
        assert old.read() == '{"resources":[]}'
    assert os.listdir(folder) == ["cds.json"]


def test_routes_of_gateways_that_are_gone_are_removed(tmp_path: Path) -> None:
    distribution.write(tmp_path, {"rds/a.json": {}, "rds/b.json": {}})
    assert distribution.write(tmp_path, {"rds/a.json": {}}) == ["rds/b.json"]
    assert os.listdir(tmp_path / "rds") == ["a.json"]


def test_a_workload_keeps_its_certificate_until_the_root_changes(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    identity = "spiffe://lab.meshbook.internal/ns/sample/sa/default"
    folder = distribution.folder_of(tmp_path / "proxy", authority)
    first = distribution.certificates(folder, identity, authority)
    assert set(first) == {folder.certificate, folder.key, folder.trusted_root}
    distribution.write(folder.path, first)
    assert (folder.path / folder.key).stat().st_mode & 0o777 == 0o600
    assert distribution.certificates(folder, identity, authority) == {}
    changed = distribution.folder_of(tmp_path / "proxy", other)
    assert set(distribution.certificates(changed, identity, other)).isdisjoint(first)


def test_every_namespace_that_stays_gets_the_root_certificate() -> None:
    namespaces = {
        ("", name): {"metadata": {"name": name, **extra}}
        for name, extra in {"a": {}, "b": {}, "c": {}, "gone": {"deletionTimestamp": "now"}}.items()
    }
    present = {
        ("a", "istio-ca-root-cert"): certificates.config_map("a", "ROOT"),
        ("b", "istio-ca-root-cert"): certificates.config_map("b", "OLD"),
    }
    assert certificates.missing(namespaces, present, "ROOT") == ["b", "c"]
