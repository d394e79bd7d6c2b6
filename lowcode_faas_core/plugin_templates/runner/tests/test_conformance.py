from __future__ import annotations

import os

import pytest
from lowcode_faas_core.testing.launcher_contract import LauncherContract

from lowcode_faas_placeholder import lowcode_faas_launcher


class TestNodeLauncher(LauncherContract):
    @pytest.fixture
    def launcher(self):
        launcher = lowcode_faas_launcher(os.environ)  # so that a variable may name the Node
        yield launcher
        launcher.close()
