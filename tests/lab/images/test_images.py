from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meshbook.lab.images import KNOWN, UnknownImage, find


@pytest.mark.parametrize(
    "reference",
    ["curlimages/curl", "docker.io/curlimages/curl:8.16.0", "registry.example:5000/curlimages/curl@sha256:00ff"],
)
def test_any_registry_tag_and_digest_do(reference: str) -> None:
    assert find(reference).arguments == ("--help",)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_helloworld_knows_its_version(version: str) -> None:
    program = find(f"docker.io/istio/examples-helloworld-{version}:1.0")
    assert program.environment["SERVICE_VERSION"] == version
    assert program.argv((), ())[0] == sys.executable
    assert Path(program.argv((), ())[-1]).name == "helloworld.py"


def test_proxies_are_envoy() -> None:
    program = find("gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9")
    assert program.kind == "proxy"
    assert Path(program.entrypoint[0]).exists()


def test_a_command_replaces_entrypoint_and_arguments() -> None:
    program = find("curlimages/curl")
    assert program.argv(("/bin/sleep", "infinity"), ()) == ("/bin/sleep", "infinity")
    assert program.argv(("/bin/sh",), ("-c", "true")) == ("/bin/sh", "-c", "true")


@pytest.mark.parametrize(
    ("arguments", "begin"), [((), "Usage: curl"), (("-V",), "curl "), (("echo", "curl?"), "curl?")], ids=str
)
def test_arguments_of_the_curl_image_are_curls_unless_they_name_a_program(
    arguments: tuple[str, ...], begin: str
) -> None:
    argv = find("curlimages/curl").argv((), arguments)
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.startswith(begin)


def test_the_samples_image_holds_a_python3() -> None:
    program = find("docker.io/istio/examples-helloworld-v1:1.0")
    argv = program.argv(("/bin/sh", "-c", "python3 -c 'print(1 + 1)'"), ())
    assert subprocess.run(argv, env=dict(program.environment), capture_output=True, check=True).stdout == b"2\n"


@pytest.mark.parametrize("image", ["nginx:latest", "notcurlimages/curl", "examples-helloworld-v3", "my-auto"])
def test_an_unknown_image_is_refused_with_the_list_of_known_ones(image: str) -> None:
    with pytest.raises(UnknownImage) as refusal:
        find(image)
    assert image in str(refusal.value)
    assert all(end in str(refusal.value) for end in KNOWN)


def test_a_gateway_that_was_not_injected_cannot_be_pulled_and_says_why() -> None:
    with pytest.raises(UnknownImage, match="has not injected this pod"):
        find("auto")
