"""wrk makes the load: in continuous integration it is installed, elsewhere its absence is a skip."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.services.debian import install


@pytest.fixture(scope="session", autouse=True)
def wrk() -> None:
    if shutil.which("wrk") is None:
        install("wrk")
    if shutil.which("wrk") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("wrk is needed: apt install wrk")
