"""``lowcode-faas completion``: the words that teach a shell to complete ours."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

SHELLS: Final = ("bash", "zsh", "fish")
PROGRAM: Final = "lowcode-faas"
#: The variable that click makes of the program's name.
VARIABLE: Final = f"_{PROGRAM.replace('-', '_').upper()}_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what teaches a shell to complete commands and names.

    Names of functions and collections come from the service, within a second or not at all.
    """
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  # click has all three
    click.echo(
        found(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source()
    )
