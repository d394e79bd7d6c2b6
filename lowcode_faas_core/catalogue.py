"""Which plugins are installed: entry-point metadata, read without importing anything of theirs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.hookspecs import GROUP

__all__ = ["EXTRAS", "Candidate", "Catalogue", "fold", "install_command", "nearest"]

#: Selection name -> extra of this distribution that installs it, of the plugins this project publishes.
EXTRAS = {
    "files": "files",
    "sqlite": "files",
    "db_s3": "db-s3",
    "docker": "docker",
    "docker-runner": "docker",
    "process": "process",
    "process-runner": "process",
    "stdout": "stdout",
    "docker_json": "promtail-json",
    "promtail": "promtail-json",
    "promtail-json": "promtail-json",
    "loki": "loki",
    "http": "http",
    "prometheus": "prometheus",
}


def fold(name: str) -> str:
    """Return the form names are compared in: case, ``-`` and ``_`` make no difference."""
    return name.strip().lower().replace("_", "-")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, when one is."""
    by_fold = {fold(each): each for each in known}
    close = difflib.get_close_matches(fold(name), by_fold, n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


def install_command(name: str) -> str | None:
    """Return what installs the plugin that this project publishes under a name; ``None`` for others."""
    extra = {fold(each): extra for each, extra in EXTRAS.items()}.get(fold(name))
    # Quoted: to a shell the brackets are a pattern.
    return extra and f"pip install 'lowcode-faas-core[{extra}]'"


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

    @property
    def install_command(self) -> str | None:
        """What installs it with all it needs; ``None`` when it is somebody else's."""
        return install_command(self.name) if self.distribution.startswith("lowcode-faas-") else None

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
        command = install_command(name)
        if command:
            return f"{text} Install it with: {command}"
        near = nearest(name, self.names)
        if near:
            return f"{text} Did you mean {near}?"
        wanted = nearest(name, EXTRAS)
        if wanted:
            return f"{text} Did you mean {wanted}? Install it with: {install_command(wanted)}"
        return text
