"""``lowcode-faas export`` and ``import``: a whole tree as one file, and back, here or elsewhere."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import click

from lowcode_faas_core.cli.calling import as_json, calling, collection, show_json
from lowcode_faas_core.cli.columns import printable, printable_lines
from lowcode_faas_core.cli.completing import collection_names
from lowcode_faas_core.cli.progress import progress
from lowcode_faas_core.client.archive import ArchiveBroken, Tree, read, write
from lowcode_faas_core.client.connection import Connection, Refused, Unreachable
from lowcode_faas_core.client.restore import Change, apply, compare
from lowcode_faas_core.client.snapshot import snapshot
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.names import check_collection_path

__all__ = ["export_tree", "import_tree"]


@click.command("export")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@collection
@click.option("--without-env", is_flag=True, help="Leave out env: its values are in clear.")
@as_json
@calling
def export_tree(
    api: Connection, file: str, collection: str, without_env: bool, as_json: bool
) -> None:
    """Write a collection and all below it to one file.

    FILE is a tar.gz; - is standard output. It holds collections, the current version of each
    function, and env. Values of env are in it as they are, secrets too: the file is yours alone to
    read (mode 0600). Earlier versions, what ran, tokens, and env of the collections above are not
    in it. The same tree makes the same bytes.
    """
    if file == "-" and (sys.stdout.isatty() or as_json):
        raise click.UsageError("standard output is taken: name a file")
    with progress("reading") as seen:
        tree = snapshot(api, collection, env=not without_env, seen=seen)
    packed = io.BytesIO()
    write(tree, packed)
    content = packed.getvalue()
    if file == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        _save(Path(file), content)
    counts = {"collections": len(tree.collections), "functions": len(tree.functions)}
    if as_json:
        show_json({"file": file, "bytes": len(content), **counts})
    click.echo(
        f"functions: {counts['functions']}, collections: {counts['collections']}, "
        f"bytes: {len(content)}",
        err=True,
    )


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--into",
    metavar="PATH",
    help="Put it there; / is the root. Where it was without.",
    shell_complete=collection_names,
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--sources", is_flag=True, help="Show changed sources line by line.")
@as_json
@calling
def import_tree(
    api: Connection,
    file: str,
    into: str | None,
    dry_run: bool,
    yes: bool,
    sources: bool,
    as_json: bool,
) -> None:
    """Write what an export holds: shows the difference first.

    It asks before anything is written. What is there and not in the file stays. A changed function
    gets a new version; functions whose bytes, language, reuse and limits are the same get none.
    """
    tree = _load(file)
    target = tree.collection if into is None else into.strip("/")
    _check_places(tree, target)
    ask = not (dry_run or yes)
    if ask and (file == "-" or not sys.stdin.isatty()):
        raise click.UsageError("nobody can be asked here: give --yes, or --dry-run to look")
    length = len(tree.collections) + len(tree.functions)
    changes: list[Change] = []
    with progress("comparing", length) as seen:
        for change in compare(api, tree, target):
            seen(change.path if change else "")
            if change is not None:
                changes.append(change)
    if not as_json:
        for change in changes:
            _show(change, sources)
    same = length - len(changes)
    count = Counter(change.new for change in changes)
    summary = f"{count[True]} new, {count[False]} changed, {same} as they should be"
    if changes and not dry_run:
        if ask:
            click.confirm(f"{summary}. Write it?", abort=True, err=True)
        _write(api, changes)
    click.echo(f"{summary}{'; nothing was written' if dry_run else ''}", err=True)
    if as_json:
        documents = [change.document() for change in changes]
        show_json(
            {
                "into": target,
                "changes": documents,
                "same": same,
                "written": bool(changes) and not dry_run,
            }
        )


def _load(file: str) -> Tree:
    try:
        with click.open_file(file, "rb") as opened:
            return read(opened)
    except ArchiveBroken as error:
        raise click.ClickException(f"{file}: {printable(error)}") from error


def _check_places(tree: Tree, target: str) -> None:
    """Refuse a place too deep before anything is written."""
    try:
        for relative in tree.collections:
            check_collection_path("/".join(filter(None, (target, relative))))
    except InvalidValue as error:
        raise click.UsageError(f"--into {target}: {error.detail}") from error


def _show(change: Change, sources: bool) -> None:
    colour = "green" if change.new else "yellow"
    details = f"  {'; '.join(change.details)}" if change.details else ""
    what = f"{'+' if change.new else '~'} {change.kind:10}  {change.path or '(root)'}{details}"
    click.secho(printable(what), fg=colour)
    for line in change.lines if sources else ():
        shade = {"+": "green", "-": "red"}.get(line[0])
        click.secho(f"    {printable(line)}", fg=shade)


def _write(api: Connection, changes: list[Change]) -> None:
    with progress("writing", len(changes)) as done:
        for number, change in enumerate(changes):
            written = f"{number} of {len(changes)} changes are written"
            try:
                apply(api, change)
            except Refused as error:
                raise click.ClickException(
                    f"{change.path}: {printable_lines(error)}\n{written}; import again to go on"
                ) from error
            except Unreachable as error:
                raise click.ClickException(
                    f"{change.path}: {printable_lines(error)}\n{written}, "
                    "and this one may be; import again to go on"
                ) from error
            except KeyboardInterrupt:
                click.echo(f"{written}, and {change.path} may be; import again to go on", err=True)
                raise
            done(change.path)


def _save(path: Path, content: bytes) -> None:
    """Replace the file at once: one cut short is worth nothing."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".export-")
        made = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(descriptor)
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
