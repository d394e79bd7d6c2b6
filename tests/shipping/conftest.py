"""The engine of the Docker tests, and images built as an installation without a network builds them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import docker
import pytest

from tests.docker.conftest import engine, image_of, instance
from tests.services.fixtures import db_s3_environ, postgres_of, s3_of
from tests.shipping import base

__all__ = ["db_s3_environ", "engine", "image_of", "instance", "postgres_of", "s3_of"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def context(wheelhouse, tmp_path_factory):
    """Return a folder as ``docker build`` gets it after ``make dist``."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "dist").mkdir()
    for wheel in wheelhouse.iterdir():
        os.link(wheel, folder / "dist" / wheel.name)
    (folder / "requirements").mkdir()
    for name in ("Dockerfile", ".dockerignore", "requirements/run.txt"):
        shutil.copy(ROOT / name, folder / name)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def images(engine, context):
    """Return the names of the images of both roles, built without a network."""
    arguments = {"BASE": base.ensure(engine), "PIP_NO_INDEX": "1"}
    names = {}
    for role in ("dispatcher", "worker"):
        names[role] = f"lowcode-faas-test:{role}"
        try:
            _, log = engine.images.build(
                path=str(context),
                target=role,
                tag=names[role],
                buildargs=arguments,
                network_mode="none",
                rm=True,
                forcerm=True,
            )
        except docker.errors.BuildError as error:
            said = "".join(line.get("stream", "") for line in error.build_log)
            pytest.fail(f"{error}\n{said[-5000:]}")
        # pip goes on when an index does not answer; where there is none, nobody is to be asked.
        assert not [line for line in log if "Retrying" in line.get("stream", "")]
    yield names
    for name in names.values():
        engine.images.remove(name, force=True)
