"""``lowcode-faas dev``: run a function from its file, and again whenever the file changes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from lowcode_faas_core.cli.calling import INTERRUPTED
from lowcode_faas_core.cli.deploy import FUNCTION_ENV, LANGUAGES, read_env
from lowcode_faas_core.cli.invoke import indented, pairs, read_input, show_result
from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.cli.watching import Watch
from lowcode_faas_core.cli.workbench import Workbench
from lowcode_faas_core.errors import FaasError, InvalidValue
from lowcode_faas_core.model import Language, LogEvent, Status
from lowcode_faas_core.names import check_env, check_function_name

__all__ = ["dev"]

#: A signal that ends a process ends it with this on top of its number.
SIGNALLED: Final = 128


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-d", "--data", default="{}", help="Its input: JSON, @FILE, or - for standard input.")
@click.option("--env", "env", multiple=True, metavar="KEY=VALUE", help="After that of the file.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its env: a JSON object, or lines KEY=VALUE. Without it NAME.env.json beside FILE.",
)
@click.option("--timeout-ms", type=click.IntRange(1), help="Its deadline.")
@click.option("--once", is_flag=True, help="Run it once, and end as it ended.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole result of each run.")
@refusing
def dev(
    file: Path,
    data: str,
    env: tuple[str, ...],
    env_file: Path | None,
    timeout_ms: int | None,
    once: bool,
    as_json: bool,
) -> None:
    """Run a function from its file, and again at each change.

    No service is needed. It runs as in the service, by the process runner unless
    LOWCODE_FAAS_RUNNER names another: in a sandbox of its own, with the same limits and verdicts.
    Its output goes to standard output, what it prints to standard error. Enter runs it again,
    Ctrl-C ends.
    """
    language = _language(file)
    beside = file.with_name(file.stem + FUNCTION_ENV)
    piped = read_input(data) if data == "-" else None

    def given() -> tuple[dict[str, Any], dict[str, str]]:
        """Return input and env: the files they come from may have changed."""
        kept = env_file or (beside if beside.is_file() else None)
        merged = {**(read_env(kept) if kept else {}), **pairs(env)}
        try:
            check_env(merged)
        except InvalidValue as error:
            raise click.UsageError(error.detail) from error
        put_in = read_input(data) if data != "-" else piped
        if not isinstance(put_in, dict):
            raise click.UsageError("the input must be a JSON object")
        return put_in, merged

    given()  # bad usage is found before anything is started
    with _ended_by_signals(), Workbench(os.environ, _show) as workbench:
        watch = Watch(file, [env_file or beside, *_named(data)])
        while True:
            try:
                source = file.read_bytes()
                result = workbench.run(file.stem, source, language, *given(), timeout_ms)
            except (FaasError, click.UsageError, OSError) as error:
                if once:
                    raise _as_usage(error) from error
                said = error.format_message() if isinstance(error, click.UsageError) else error
                click.echo(f"Error: {said}", err=True)
            else:
                show_result(result.document(), as_json)
                if once:
                    raise SystemExit(0 if result.status is Status.SUCCEEDED else 1)
            click.echo(f"watching {file}; Ctrl-C ends", err=True)
            watch.wait()
            click.echo(f"{time.strftime('%H:%M:%S')}  running {file.name}", err=True)


def _language(file: Path) -> Language:
    if file.suffix not in LANGUAGES:
        raise click.UsageError(f"{file}: a function's file ends in {', '.join(LANGUAGES)}")
    try:
        check_function_name(file.stem)
    except InvalidValue as error:
        raise click.UsageError(f"{file}: {error.detail}") from error
    return Language(LANGUAGES[file.suffix])


def _named(data: str) -> list[Path]:
    """Return the file that input comes from; it is watched, too."""
    return [Path(data[1:])] if data.startswith("@") else []


def _show(event: LogEvent) -> None:
    if (event.log_stream, event.level) == ("platform", "error"):
        return  # what the run failed by: its result says so, too
    click.echo(f"{event.level:5}  {indented(event.message)}", err=True)


def _as_usage(error: Exception) -> click.ClickException:
    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, InvalidValue):
        return click.UsageError(error.detail)
    return click.ClickException(str(error))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave by the front door: whatever ends this, sandboxes are ended and folders removed."""

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(SIGNALLED + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
