"""``lowcode-faas plugins``: what is installed, and what the environment selects for which role."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from lowcode_faas_core.catalogue import Candidate, Catalogue
from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.configuration import BackendSettings, ServerSettings
from lowcode_faas_core.errors import PluginError, StartError
from lowcode_faas_core.plugins import describe, roles_of
from lowcode_faas_core.settings import read_settings
from lowcode_faas_core.startup import ProcessRole, selections

__all__ = ["plugins"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--roles", is_flag=True, help="Import each, and say what it could be selected for.")
@refusing
def plugins(as_json: bool, roles: bool) -> None:
    """List installed plugins and what each is selected for; without --roles imports none of them."""
    catalogue = Catalogue.installed()
    server, backends = read_settings(dict(os.environ), ServerSettings, BackendSettings)
    selected: dict[str, list[str]] = {}
    problems: list[str] = []
    for role in ProcessRole:
        for selection in selections(role, server, backends):
            if selection.unasked:
                continue  # whether it can is not known without importing it
            for name in selection.names:
                try:
                    identity = catalogue.find(selection.variable, name).identity
                except PluginError as error:
                    problems.append(error.detail)
                else:
                    selected.setdefault(identity, []).append(selection.role.title)
    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "distribution": each.distribution,
            "version": each.version,
            "selected": each.identity in selected,
            "roles": list(dict.fromkeys(selected.get(each.identity, ()))),
            **(_offer(each) if roles else {}),
        }
        for each in catalogue.candidates
    ]
    if as_json:
        click.echo(json.dumps({"plugins": rows}, indent=2))
    else:
        for row in rows:
            mark = "*" if row["selected"] else " "
            line = f"{mark} {row['name']:18} {row['distribution']} {row['version']}"
            if row["roles"]:
                line += f"  {', '.join(row['roles'])}"
            if roles:
                offer = ", ".join(row["can_be"]) or row.get("error", "nothing")
                line += f"  (can be: {offer})"
            click.echo(line)
    if problems:
        raise StartError("\n".join(dict.fromkeys(problems)))


def _offer(candidate: Candidate) -> dict[str, Any]:
    try:
        return {"can_be": roles_of(candidate.load())}
    except (Exception, SystemExit) as error:
        # One that is broken keeps nobody from seeing the others.
        return {"can_be": [], "error": describe(error)}
