"""The command line: one module a command, errors of the start as sentences on stderr."""

from __future__ import annotations

import importlib
import os
from typing import Final

import click

from lowcode_faas_core import __version__
from lowcode_faas_core.cli.examples import with_examples

__all__ = ["cli", "main"]

#: The module of each command, and its name there where that is another.
_CALLING: Final = {
    "deploy": "deploy",
    "invoke": "invoke",
    "list": "functions:list_functions",
    "show": "functions",
    "versions": "functions",
    "rollback": "functions",
    "pull": "functions",
    "delete": "functions",
    "collections": "collections",
    "env": "env",
    "executions": "executions",
    "logs": "logs",
    "export": "archive:export_tree",
    "import": "archive:import_tree",
}
_ON_THE_HOST: Final = {
    "dev": "dev",
    "dispatcher": "roles",
    "worker": "roles",
    "config": "config",
    "plugins": "plugins",
    "plugin": "plugin_new",
    "token": "token",
    "migrate": "upkeep",
    "gc": "upkeep",
    "doctor": "doctor",
    "completion": "completion",
}
_COMMANDS: Final = {**_CALLING, **_ON_THE_HOST}


class _OneByOne(click.Group):
    """Imports a command when it is asked for: a call of the API needs no server."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = _COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, _, name = where.partition(":")
        found = importlib.import_module(f"{__name__}.{module}")
        command: click.Command = getattr(found, name or cmd_name)
        return with_examples(command, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in (("Calling a service", _CALLING), ("On its host", _ON_THE_HOST)):
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                if command is not None:
                    rows.append((name, command.get_short_help_str(formatter.width)))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.command(cls=_OneByOne, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lowcode-faas")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run JavaScript and TypeScript functions on a machine of your own."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main() -> None:
    """Run the command line; the console script's entry point."""
    cli(prog_name="lowcode-faas")
