"""The command line: one module a command, errors of the start as sentences on stderr."""

from __future__ import annotations

import click

from lowcode_faas_core import __version__
from lowcode_faas_core.cli.collections import collections
from lowcode_faas_core.cli.config import config
from lowcode_faas_core.cli.deploy import deploy
from lowcode_faas_core.cli.doctor import doctor
from lowcode_faas_core.cli.env import env
from lowcode_faas_core.cli.functions import delete, list_functions, rollback, show, versions
from lowcode_faas_core.cli.invoke import invoke
from lowcode_faas_core.cli.logs import logs
from lowcode_faas_core.cli.plugins import plugins
from lowcode_faas_core.cli.roles import dispatcher, worker
from lowcode_faas_core.cli.token import token
from lowcode_faas_core.cli.upkeep import gc, migrate

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lowcode-faas")
def cli() -> None:
    """Run JavaScript and TypeScript functions on a machine of your own."""


_CALLING = (
    *(deploy, invoke, list_functions, show, versions, rollback, delete),
    *(collections, env, logs),
)
_ON_THE_HOST = (dispatcher, worker, config, doctor, plugins, token, migrate, gc)
for _command in (*_CALLING, *_ON_THE_HOST):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; the console script's entry point."""
    cli(prog_name="lowcode-faas")
