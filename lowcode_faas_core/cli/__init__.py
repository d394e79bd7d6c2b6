"""The command line: one module a command, errors of the start as sentences on stderr."""

from __future__ import annotations

import click

from lowcode_faas_core import __version__
from lowcode_faas_core.cli.config import config
from lowcode_faas_core.cli.doctor import doctor
from lowcode_faas_core.cli.plugins import plugins
from lowcode_faas_core.cli.roles import dispatcher, worker
from lowcode_faas_core.cli.token import token
from lowcode_faas_core.cli.upkeep import gc, migrate

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lowcode-faas")
def cli() -> None:
    """Run JavaScript and TypeScript functions on a machine of your own."""


for _command in (dispatcher, worker, config, doctor, plugins, token, migrate, gc):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; the console script's entry point."""
    cli(prog_name="lowcode-faas")
