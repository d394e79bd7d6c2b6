"""``lowcode-faas config``: the effective values, where each came from, secrets masked."""

from __future__ import annotations

import json
import os

import click

from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.configuration import CORE_SETTINGS
from lowcode_faas_core.errors import ConfigurationError, StartError
from lowcode_faas_core.settings import Origin, SettingInfo, effective, infos
from lowcode_faas_core.startup import ProcessRole, Startup

__all__ = ["config"]

MASK = "****"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in ProcessRole]),
    default=ProcessRole.DISPATCHER.value,
    show_default=True,
    help="The service whose plugins are listed, too.",
)
@refusing
def config(as_json: bool, role: str) -> None:
    """Print the effective values with their origin, secrets masked.

    With something wrong the values are printed all the same, then what is wrong; exit code 2.
    """
    environ = dict(os.environ)
    problem: StartError | None = None
    warnings: list[str] = []
    classes = list(CORE_SETTINGS)
    try:
        startup = Startup.read(environ, ProcessRole(role))
        classes = list(startup.settings_classes)
        warnings = startup.warnings()
    except StartError as error:
        problem = error
        warnings = list(error.warnings)
    rows = [_row(environ, info) for info in infos(classes)]
    if as_json:
        values = {row.info.variable: _document(row) for row in rows}
        click.echo(json.dumps({"values": values, "warnings": warnings}, indent=2))
    else:
        width = max(len(row.info.variable) for row in rows)
        for row in rows:
            click.echo(f"{row.info.variable:{width}}  {shown(row):24}  {row.origin}")
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if problem is not None:
        raise problem


def _row(environ: dict[str, str], info: SettingInfo) -> Origin:
    try:
        return effective(environ, info)
    except ConfigurationError:
        return Origin(info, "", "error")  # reported with all the others by Startup.read


def _document(row: Origin) -> dict[str, str]:
    return {"value": shown(row), "origin": row.origin}


def shown(row: Origin) -> str:
    """Return the value for people: a secret that is set is masked, whatever its length."""
    return MASK if row.info.secret and row.text else row.text
