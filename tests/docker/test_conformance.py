"""The Docker runner holds what every launcher must, with the Node of both supported lines."""

from __future__ import annotations

import pytest

from lowcode_faas_core.testing.launcher_contract import LauncherContract


class TestNode24(LauncherContract):
    @pytest.fixture
    def launcher(self, launchers):
        return launchers()


class TestByTheEngineAlone(LauncherContract):
    @pytest.fixture
    def launcher(self, launchers):
        return launchers(direct=False)


class TestNode22OnItsOwnNetwork(LauncherContract):
    @pytest.fixture
    def launcher(self, launchers, image_of):
        return launchers(image=image_of(22), network="")

    # Counts what this process and the engine hold, for a minute: the same for any Node.
    test_nothing_piles_up = None
