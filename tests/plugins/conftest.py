from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

Install = Callable[..., str]
_serial = itertools.count()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a tiny real distribution: a module and its .dist-info, on a path of its own.

    Processes started by the test see it too.
    """

    def installed(distribution: str, source: str, *names: str, version: str = "1.0") -> str:
        module = f"plugin_{next(_serial)}"
        site = tmp_path / module
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        lines = "".join(f"{name} = {module}\n" for name in names)
        (info / "entry_points.txt").write_text(f"[lowcode_faas]\n{lines}")
        monkeypatch.syspath_prepend(site)
        inherited = os.environ.get("PYTHONPATH")
        monkeypatch.setenv("PYTHONPATH", f"{site}:{inherited}" if inherited else str(site))
        return module

    return installed
