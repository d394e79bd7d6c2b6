"""The engine, its holes, its image and its socket: with none, with a real one."""

from __future__ import annotations

import socket

import pytest
from lowcode_faas_docker_runner.advisories import ADVISORIES, known, numbers
from lowcode_faas_docker_runner.examination import holes, machine

from lowcode_faas_core.findings import Level
from tests.docker.conftest import engine, image_of

__all__ = ["engine", "image_of"]


def test_without_an_engine_it_fails_and_says_what_to_do(doctor, tmp_path):
    report = doctor(RUNNER="docker", DOCKER_HOST=f"unix://{tmp_path}/none.sock")
    assert report.code == 1
    assert "there is no such socket; start it" in report.texts("failure", "Docker")


def test_an_engine_that_hangs_does_not_hang_the_doctor(doctor, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/silent.sock")
        listener.listen(16)
        report = doctor(RUNNER="docker", DOCKER_HOST=f"unix://{tmp_path}/silent.sock")
    assert "within 5 s" in report.texts("failure", "Docker")


@pytest.mark.fault(97)
def test_a_real_engine_is_named_with_its_holes_image_and_clock(doctor, engine, image_of):
    report = doctor(RUNNER="docker", NODE_DOCKER_IMAGE=image_of())
    version = engine.version()["Version"]
    assert report.code == 0, report
    assert f"Engine {version} answers" in report.texts("ok", "Docker")
    assert "clock agrees" in report.texts("ok", "Docker")
    assert "sha256:" in report.texts("ok", "image")
    assert report.texts("ok", "CVEs") + report.texts("warning", "CVEs")


@pytest.mark.fault(97)
def test_holes_of_copying_count_where_copies_are_made(doctor, engine):
    if numbers(engine.version()["Version"]) >= (29, 5, 1):
        pytest.skip("this engine is newer than every hole that is known")
    name = "CVE-2026-41567"
    assert name in doctor(RUNNER="docker").texts("ok", "CVEs")
    assert name in doctor(RUNNER="docker", DOCKER_EXCHANGE="files").texts("warning", "CVEs")


def test_an_absent_image_is_a_failure_where_nobody_would_pull_it(doctor, engine):
    given = {"RUNNER": "docker", "NODE_DOCKER_IMAGE": "lowcode-faas-test:absent"}
    assert "docker pull" in doctor(**given).texts("warning", "image")
    assert doctor(**given, PREWARM_NODE_IMAGE="false").code == 1


def test_a_socket_for_everybody_is_a_warning(doctor, tmp_path):
    address = tmp_path / "open.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        address.chmod(0o666)
        report = doctor(RUNNER="docker", DOCKER_HOST=f"unix://{address}")
    assert "writable for everybody" in report.texts("warning", "Docker")


@pytest.mark.fault(97)
@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("20.10.24+dfsg1", {"CVE-2026-41567", "CVE-2026-41568", "CVE-2026-42306"}),
        ("19.03.0", {"CVE-2026-41567", "CVE-2021-41089", "CVE-2019-14271"}),
        ("29.5.0", {"CVE-2026-41567"}),
        ("29.5.1", set()),
        ("", set()),
    ],
)
def test_versions_are_held_against_the_table(version, names):
    found = {
        identity
        for _, advisory in known({"Version": version}, by_copying=True)
        for identity in advisory.identities
    }
    assert names <= found
    assert bool(found) == bool(names)


def test_every_hole_has_a_source_with_a_date():
    for advisory in ADVISORIES:
        assert any(word[:4].isdigit() and word.count("-") == 2 for word in advisory.source.split())


def test_an_engine_without_limits_or_seccomp_is_told():
    info = {"SwapLimit": False, "MemoryLimit": True, "CgroupVersion": "1", "SecurityOptions": []}
    texts = " ".join(each.text for each in machine(info, "runsc"))
    for word in ("cannot limit swap", "version 1", "no seccomp", "no runtime runsc"):
        assert word in texts
    well = {"SecurityOptions": ["name=seccomp,profile=default"], "CgroupVersion": "2"}
    assert list(machine(well, "")) == []
    (found,) = holes({"Version": "99.0"}, copying=True)
    assert found.level is Level.OK
