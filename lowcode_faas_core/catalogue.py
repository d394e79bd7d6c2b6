"""Which plugins are installed: entry-point metadata, read without importing anything of theirs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.hookspecs import GROUP

__all__ = ["OUR_PLUGINS", "Candidate", "Catalogue", "fold", "nearest"]

#: Selection name -> distribution of the plugins this project publishes, for install hints.
OUR_PLUGINS = {
    "files": "lowcode-faas-files",
    "sqlite": "lowcode-faas-files",
    "db_s3": "lowcode-faas-db-s3",
    "docker": "lowcode-faas-docker-runner",
    "docker-runner": "lowcode-faas-docker-runner",
    "process": "lowcode-faas-process-runner",
    "process-runner": "lowcode-faas-process-runner",
    "stdout": "lowcode-faas-stdout",
    "docker_json": "lowcode-faas-promtail-json",
    "promtail": "lowcode-faas-promtail-json",
    "promtail-json": "lowcode-faas-promtail-json",
    "loki": "lowcode-faas-loki",
    "http": "lowcode-faas-http-source",
    "prometheus": "lowcode-faas-prometheus",
}


def fold(name: str) -> str:
    """Return the form names are compared in: case, ``-`` and ``_`` make no difference."""
    return name.strip().lower().replace("_", "-")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, when one is."""
    by_fold = {fold(each): each for each in known}
    close = difflib.get_close_matches(fold(name), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


@dataclass(frozen=True)
class Candidate:
    """One entry point of the group; nothing of it is imported before :meth:`load`."""

    name: str
    target: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def identity(self) -> str:
        """Equal for the several names of one plugin."""
        return f"{self.distribution}:{self.target}"

    @property
    def origin(self) -> str:
        """Distribution and version, for people."""
        return f"{self.distribution} {self.version}"

    def load(self) -> Any:
        """Import the plugin; raises whatever its import raises."""
        return self.entry_point.load()


class Catalogue:
    """The installed plugins of one moment."""

    def __init__(self, candidates: Iterable[Candidate]) -> None:
        self.candidates = sorted(candidates, key=lambda each: (fold(each.name), each.distribution))

    @classmethod
    def installed(cls) -> Catalogue:
        """Read the entry points of this interpreter."""
        return cls(
            Candidate(
                point.name,
                point.value,
                point.dist.name if point.dist else "unknown",
                point.dist.version if point.dist else "?",
                point,
            )
            for point in entry_points(group=GROUP)
        )

    @property
    def names(self) -> list[str]:
        """Every selectable name."""
        return list(dict.fromkeys(each.name for each in self.candidates))

    def find(self, variable: str, name: str) -> Candidate:
        """Return the plugin that ``variable`` names.

        :raises PluginError: when there is none, or when two plugins offer the name.
        """
        found = [each for each in self.candidates if fold(each.name) == fold(name)]
        identities = {each.identity: each for each in found}
        if not identities:
            raise PluginError(self._unknown(variable, name))
        if len(identities) > 1:
            origins = " and ".join(f"{each.origin} ({each.target})" for each in identities.values())
            raise PluginError(
                f'{variable} names the plugin "{name}", which {origins} both offer; '
                "uninstall one of them."
            )
        return found[0]

    def _unknown(self, variable: str, name: str) -> str:
        installed = ", ".join(self.names) or "none"
        text = f'{variable} names the plugin "{name}", which is not installed (installed: {installed}).'
        own = {fold(key): distribution for key, distribution in OUR_PLUGINS.items()}
        if fold(name) in own:
            return f"{text} Install it with: pip install {own[fold(name)]}"
        near = nearest(name, self.names)
        if near:
            return f"{text} Did you mean {near}?"
        wanted = nearest(name, OUR_PLUGINS)
        if wanted:
            return (
                f"{text} Did you mean {wanted}? Install it with: pip install {OUR_PLUGINS[wanted]}"
            )
        return text
