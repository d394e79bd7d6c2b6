"""``lowcode-faas migrate`` and ``lowcode-faas gc``: upkeep of the storage, on its own."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

import click

from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.configuration import BackendSettings
from lowcode_faas_core.errors import PlatformError
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.plugins import STORAGE, PluginRegistry, Selection
from lowcode_faas_core.settings import PREFIX, read_settings

__all__ = ["gc", "migrate"]


@contextlib.contextmanager
def _storage() -> Iterator[Storage]:
    """Open the storage that the environment names, and nothing else."""
    environ = dict(os.environ)
    [backends] = read_settings(environ, BackendSettings)
    chosen = Selection(f"{PREFIX}STORAGE", STORAGE, (backends.storage,))
    storage = PluginRegistry([chosen], trace=backends.trace_plugins).storage(environ)
    try:
        yield storage
    except PlatformError as error:
        raise click.ClickException(error.detail) from error
    finally:
        storage.close()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@refusing
def migrate(as_json: bool) -> None:
    """Bring the storage's schema up to date; the first start of a release does the same."""
    with _storage() as storage:
        done = storage.migrate()
    if as_json:
        click.echo(json.dumps({"applied": done}))
        return
    for step in done:
        click.echo(step)
    click.echo("up to date" if not done else f"applied {len(done)}", err=True)


@click.command()
@click.option("--delete", is_flag=True, help="Remove what is found; without it nothing changes.")
@click.option(
    "--older-than",
    type=click.FloatRange(min=1),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="Leave what is younger: it may belong to a deploy under way.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@refusing
def gc(delete: bool, older_than: float, as_json: bool) -> None:
    """Find what the storage keeps and nothing needs, such as objects of deploys cut short."""
    count = 0
    with _storage() as storage:
        for found in storage.collect_garbage(min_age_s=older_than * 3600, remove=delete):
            count += 1
            click.echo(
                json.dumps({"what": found.what, "age_s": found.age_s, "removed": found.removed})
                if as_json
                else found.what
            )
    fate = "removed" if delete else "found; --delete removes them"
    click.echo(f"{count} {fate}" if count or delete else "nothing to collect", err=True)
