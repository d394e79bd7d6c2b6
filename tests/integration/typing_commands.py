"""Runs ``lowcode-faas`` as somebody types it, in a folder of its own.

In this process where it makes no difference: a new one imports for longer than most commands take.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from click.testing import CliRunner

from lowcode_faas_core.cli import cli
from tests.integration.conftest import COMMAND

__all__ = ["Run", "environment", "typed"]

#: Exit code, stdout and stderr.
Run = Callable[..., tuple[int, str, str]]


def environment(folder: Path, url: str) -> dict[str, str]:
    """Return the environment of somebody whose home is the folder."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
    return {**clean, "HOME": str(folder), "LOWCODE_FAAS_URL": url}


def typed(folder: Path, url: str) -> Run:
    """Return what runs a command against the service of that URL."""

    def run(
        *arguments: str,
        stdin: str = "",
        keys: str | None = None,
        stderr: int = subprocess.PIPE,
        **environ: str,
    ) -> tuple[int, str, str]:
        given = {**environment(folder, url), **environ}
        if keys is None and stderr == subprocess.PIPE and arguments[:1] != ("dev",):
            return _run_here(folder, arguments, stdin, given)
        with _terminal(keys) as keyboard:
            done = subprocess.run(
                [COMMAND, *arguments],
                **({"input": stdin} if keyboard is None else {"stdin": keyboard}),  # type: ignore[call-overload]
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                timeout=60,
                cwd=folder,
                check=False,
                env=given,
            )
        return done.returncode, done.stdout, done.stderr

    return run


def _run_here(
    folder: Path, arguments: tuple[str, ...], stdin: str, environ: dict[str, str]
) -> tuple[int, str, str]:
    others: dict[str, str | None] = dict.fromkeys(os.environ.keys() - environ.keys())
    with chdir(folder):
        done = CliRunner(env={**others, **environ}).invoke(
            cli, arguments, input=stdin, prog_name="lowcode-faas"
        )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


@contextmanager
def _terminal(keys: str | None) -> Iterator[int | None]:
    """Give the end of a terminal at which these keys were pressed; ``None`` where there is none."""
    if keys is None:
        yield None
        return
    ours, theirs = os.openpty()
    try:
        os.write(ours, keys.encode())
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)
