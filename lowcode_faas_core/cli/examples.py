"""What stands at the end of each command's help: how somebody would type it."""

from __future__ import annotations

from typing import Final

import click

__all__ = ["EXAMPLES", "with_examples"]

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "deploy": ("deploy hello.mjs -c shop", "deploy functions/ --json"),
    "invoke": (
        """invoke hello -d '{"name": "you"}'""",
        "invoke hello -c shop -d @input.json --env GREETING=ahoy --version 2",
    ),
    "list": ("list -c shop",),
    "show": ("show hello -c shop", "show hello --source --version 2"),
    "versions": ("versions hello -c shop",),
    "rollback": ("rollback hello", "rollback hello 3 -c shop"),
    "pull": ("pull hello -c shop", "pull hello --url https://example.com/hello.mjs"),
    "delete": ("delete hello -c shop --yes",),
    "collections list": ("collections list --prefix shop",),
    "collections create": ("collections create shop/eu --env-file eu.env",),
    "collections delete": ("collections delete shop/eu",),
    "collections tree": ("collections tree",),
    "env get": ("env get -c shop", "env get -f hello -c shop"),
    "env set": ("env set GREETING=ahoy -c shop", "env set WORD=x -f hello"),
    "env unset": ("env unset GREETING -c shop",),
    "env explain": ("env explain hello -c shop",),
    "executions list": ("executions list -f hello --status timeout -n 50",),
    "executions show": (
        "executions show 01a22030-3701-768d-8a73-1539d1af1acc",
        "executions show 1539d1af1acc",
    ),
    "executions replay": ("executions replay 01a22030-3701-768d-8a73-1539d1af1acc --version 2",),
    "logs function": ("logs hello -c shop --follow",),
    "logs show": ("logs show 01a22030-3701-768d-8a73-1539d1af1acc --follow",),
    "logs query": ("logs query --function hello --since 2026-11-26T09:00:00Z",),
    "export": ("export everything.tar.gz", "export -c shop shop.tar.gz"),
    "import": ("import shop.tar.gz --dry-run", "import shop.tar.gz --into staging --yes"),
    "dev": (
        """dev hello.mjs -d '{"name": "you"}'""",
        "dev hello.mjs -d @input.json --env GREETING=ahoy --once",
    ),
    "dispatcher": ("dispatcher",),
    "worker": ("worker",),
    "config": ("config --json",),
    "plugins": ("plugins",),
    "plugin new": ("plugin new redis --role storage",),
    "token create": ("token create ci --verbs read,deploy --collection shop",),
    "token list": ("token list",),
    "token revoke": ("token revoke 5f0c2a",),
    "migrate": ("migrate",),
    "gc": ("gc --older-than 48", "gc --delete"),
    "doctor": ("doctor --strict",),
    "completion": ("completion bash > ~/.local/share/bash-completion/completions/lowcode-faas",),
}


def with_examples(command: click.Command, name: str) -> click.Command:
    """Put a command's examples at the end of its help, and those of the commands below it."""
    if found := EXAMPLES.get(name):
        lines = "\n".join(f"  lowcode-faas {each}" for each in found)
        command.epilog = f"\b\nExample{'s' if len(found) > 1 else ''}:\n{lines}"
    if isinstance(command, click.Group):
        for below, each in command.commands.items():
            with_examples(each, f"{name} {below}")
    return command
