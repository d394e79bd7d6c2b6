"""What was written for a supported version of an interface works; what needs another is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core import __version__
from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.interface_versions import SUPPORTED, Versions, mismatch
from lowcode_faas_core.interfaces.launcher import Launcher, Sandbox
from lowcode_faas_core.interfaces.log_dialect import LogDialect
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.plugins import FURTHER, STORAGE, PluginRegistry, Selection

#: Each version of each interface, a member a line. A file is written once and never changed.
FROZEN = Path(__file__).parent / "interfaces"
SOURCE = """
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_dialect import LogDialect
from lowcode_faas_core.testing.memory_storage import MemoryStorage

class Later(MemoryStorage):
    interface_version = VERSION

class Dialect(LogDialect):
    name = "later"
    interface_version = VERSION
    def query(self, wanted): return ""

@hookimpl
def lowcode_faas_storage(environ):
    return Later()

@hookimpl
def lowcode_faas_log_dialect(environ):
    return Dialect()
"""
CHOSEN = Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("later",))


def members(interface: type) -> Iterator[str]:
    """Return what implementations are called by or may set, whether they must, in order of name."""
    for cls in (interface, Sandbox) if interface is Launcher else (interface,):
        annotated = inspect.get_annotations(cls)
        for name in sorted({*vars(cls), *annotated}):
            value = vars(cls).get(name)
            if name.startswith("_") or name in vars(Versioned):
                continue
            if inspect.isfunction(value):
                need = "required" if name in cls.__abstractmethods__ else "optional"
                signature = str(inspect.signature(value)).replace("'", "")
                yield f"{need} {cls.__name__}.{name}{signature}"
            elif name in annotated:
                need = "optional" if name in vars(cls) else "required"
                yield f"{need} {cls.__name__}.{name}: {annotated[name]}".replace("'", "")


def broken(old: list[str], new: list[str]) -> list[str]:
    """Return what keeps an implementation of ``old`` from being one of ``new``."""
    added = [line for line in new if line not in old and not line.startswith("optional ")]
    return [line for line in old if line not in new] + added


@pytest.mark.parametrize("interface", SUPPORTED, ids=lambda each: each.__name__)
def test_an_interface_changes_with_its_version_only(interface: type) -> None:
    # A failure here: give the interface its next version, and write that to a file of its own.
    newest = SUPPORTED[interface].newest
    frozen = (FROZEN / f"{interface.__name__}-{newest}.txt").read_text().splitlines()
    assert list(members(interface)) == frozen


@pytest.mark.parametrize("interface", SUPPORTED, ids=lambda each: each.__name__)
def test_every_supported_version_is_part_of_what_is_there(interface: type) -> None:
    versions = SUPPORTED[interface]
    for version in range(versions.oldest, versions.newest + 1):
        frozen = (FROZEN / f"{interface.__name__}-{version}.txt").read_text().splitlines()
        assert broken(frozen, list(members(interface))) == []


def test_what_breaks_an_older_implementation_is_seen() -> None:
    old = ["required S.a(self)", "optional S.b(self)"]
    assert broken(old, [*old, "optional S.c(self)"]) == []
    assert broken(old, [*old, "required S.c(self)"]) == ["required S.c(self)"]
    assert broken(old, ["required S.a(self)"]) == ["optional S.b(self)"]
    changed = ["required S.a(self, more)", "optional S.b(self)"]
    assert broken(old, changed) == ["required S.a(self)", "required S.a(self, more)"]


def test_a_plugin_for_a_newer_interface_is_refused(install: Callable[..., str]) -> None:
    install("later-storage", SOURCE.replace("VERSION", "2"), "later", version="3.1")
    with pytest.raises(PluginError) as caught:
        PluginRegistry([CHOSEN]).storage({})
    assert caught.value.detail == (
        'LOWCODE_FAAS_STORAGE names the plugin "later" (later-storage 3.1), which was written for '
        f"version 2 of the interface Storage; lowcode-faas-core {__version__} has version 1. "
        "Upgrade lowcode-faas-core."
    )


def test_what_every_plugin_may_bring_is_held_to_its_version_too(
    install: Callable[..., str],
) -> None:
    install("later-storage", SOURCE.replace("VERSION", "2"), "later")
    found = PluginRegistry([Selection("LOWCODE_FAAS_PLUGINS", FURTHER, ("later",))])
    with pytest.raises(PluginError, match="version 2 of the interface LogDialect"):
        found.log_dialects({})


def test_one_that_says_what_is_supported_is_built(install: Callable[..., str]) -> None:
    install("later-storage", SOURCE.replace("VERSION", "1"), "later")
    found = PluginRegistry([CHOSEN])
    assert isinstance(found.storage({}), Storage)
    assert isinstance(found.log_dialects({})[0], LogDialect)


@pytest.mark.parametrize(
    ("claimed", "said"),
    [
        (3, None),
        (5, None),
        (6, "has version 3 to 5. Upgrade lowcode-faas-core."),
        (2, "has version 3 to 5. Upgrade old-storage."),
        ("4", "whose interface_version is '4', not a whole number."),
    ],
)
def test_between_the_oldest_and_the_newest_all_are_fine(claimed: Any, said: str | None) -> None:
    implementation = type("Any", (), {"interface_version": claimed})
    reason = mismatch(Storage, implementation, "old-storage", {Storage: Versions(3, 5)})
    assert (reason is None) if said is None else (reason or "").endswith(said)
