"""The process runner holds what every launcher must, in each form a machine may force on it."""

from __future__ import annotations

import pytest

from lowcode_faas_core.testing.launcher_contract import LauncherContract


class TestBest(LauncherContract):
    @pytest.fixture
    def launcher(self, launchers):
        return launchers("best")


class TestWithoutPrivateTmp(LauncherContract):
    @pytest.fixture
    def launcher(self, launchers):
        return launchers("no_tmp", cgroups=False)


class TestWithoutNamespaces(LauncherContract):
    @pytest.fixture
    def launcher(self, launchers):
        return launchers("no_namespace", cgroups=False)
