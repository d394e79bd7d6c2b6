"""``lowcode-faas plugins``: what is installed, and what the environment selects for which role."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from lowcode_faas_core.catalogue import Catalogue
from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.configuration import BackendSettings, ServerSettings
from lowcode_faas_core.errors import PluginError, StartError
from lowcode_faas_core.settings import read_settings
from lowcode_faas_core.startup import ProcessRole, selections

__all__ = ["plugins"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@refusing
def plugins(as_json: bool) -> None:
    """List installed plugins and what each is selected for; imports none of them."""
    catalogue = Catalogue.installed()
    server, backends = read_settings(dict(os.environ), ServerSettings, BackendSettings)
    roles: dict[str, list[str]] = {}
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
                    roles.setdefault(identity, []).append(selection.role.title)
    rows: list[dict[str, Any]] = [
        {
            "name": each.name,
            "distribution": each.distribution,
            "version": each.version,
            "selected": each.identity in roles,
            "roles": list(dict.fromkeys(roles.get(each.identity, ()))),
        }
        for each in catalogue.candidates
    ]
    if as_json:
        click.echo(json.dumps({"plugins": rows}, indent=2))
    else:
        for row in rows:
            mark = "*" if row["selected"] else " "
            titles = ", ".join(row["roles"])
            click.echo(
                f"{mark} {row['name']:18} {row['distribution']} {row['version']}  {titles}".rstrip()
            )
    if problems:
        raise StartError("\n".join(dict.fromkeys(problems)))
