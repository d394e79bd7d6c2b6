"""``lowcode-faas executions``: what ran, how it ended, and running it again."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from lowcode_faas_core.cli.calling import as_json, calling, show_json
from lowcode_faas_core.cli.columns import printable, show_rows
from lowcode_faas_core.cli.completing import collection_names, function_names
from lowcode_faas_core.cli.invoke import show_result
from lowcode_faas_core.client.connection import Connection, Refused, segment

__all__ = ["ending_in", "executions", "with_whole_id"]

T = TypeVar("T")

#: What is taken for the end of an id: no less than may be an id, and less than the service's own.
END: Final = range(8, 36)
#: How many of the newest executions are looked through for one whose id ends so, and at a time.
LOOKED_AT: Final = 2000
AT_A_TIME: Final = 500

#: Characters of an output that are shown where two are compared, and those of them before the
#: first that differs.
SHOWN: Final = 40
BEFORE: Final = 12
KEEPING: Final = (
    "a service keeps the inputs of what runs while its LOWCODE_FAAS_EXECUTIONS_KEEP_IO=true is set,\n"
    "each up to LOWCODE_FAAS_EXECUTIONS_IO_BYTES"
)


def with_whole_id(api: Connection, given: str, use: Callable[[str], T]) -> T:
    """Use an execution, or where none is called that the one of the newest whose id ends so.

    :raises Refused: it cannot be used; raised by ``use`` or by the list.
    :raises click.ClickException: none is meant, or not one alone.
    """
    try:
        return use(given)
    except Refused as error:
        if error.problem.get("code") != "not_found" or len(given) not in END:
            raise
        found = ending_in(api, given)
        if found is None:
            said = f"{error}, and none of the newest {LOOKED_AT} ends in it"
            raise click.ClickException(said) from error
    return use(found)


def ending_in(api: Connection, end: str) -> str | None:
    """Return the id that ends so, of the newest executions; the service's console shows ends.

    :raises Refused: they cannot be listed.
    :raises click.ClickException: there are several.
    """
    if len(end) not in END:
        return None
    newest = itertools.islice(api.pages("/executions", {"limit": AT_A_TIME}), LOOKED_AT)
    ids = [str(each["execution_id"]) for each in newest]
    # A list that grows meanwhile may have one twice.
    found = list(dict.fromkeys(each for each in ids if each.endswith(end)))
    if len(found) > 1:
        raise click.ClickException(f"{end} is the end of several: {', '.join(found)}")
    return found[0] if found else None


@click.group()
def executions() -> None:
    """List, show and repeat what ran.

    The end of an EXECUTION_ID does, from 8 characters on, where it is that of one of the newest
    alone: the service's console shows 12.
    """


@executions.command("list")
@click.option("-f", "--function", shell_complete=function_names)
@click.option(
    "-c",
    "--collection",
    "collection_path",
    metavar="PATH",
    help="And all below it.",
    shell_complete=collection_names,
)
@click.option("--status", help="running, succeeded, failed, timeout, …")
@click.option("--start", help="cold, prewarmed, warm, …")
@click.option("--run-id")
@click.option("--deployment-id")
@click.option("--since", help="RFC 3339.")
@click.option("--until", help="RFC 3339.")
@click.option("-n", "--number", type=click.IntRange(1), default=20, show_default=True)
@as_json
@calling
def list_executions(api: Connection, /, number: int, as_json: bool, **filters: str | None) -> None:
    """List the newest."""
    items = list(itertools.islice(api.pages("/executions", filters), number))
    if as_json:
        show_json(items)
        return
    show_rows(
        (
            each["execution_id"],
            each["started_at"],
            f"{each['collection_path']}/{each['function_name']}".lstrip("/"),
            f"v{each['deployment_version']}",
            each["status"],
            f"{each['timings_ms']['total']:.1f} ms" if each["timings_ms"] else None,
        )
        for each in items
    )


@executions.command()
@click.argument("execution_id")
@click.option("--json", "as_json", is_flag=True, help="It is JSON either way.")
@calling
def show(api: Connection, execution_id: str, as_json: bool) -> None:
    """Print all that is known of one, as JSON."""
    del as_json
    show_json(
        with_whole_id(
            api,
            execution_id,
            lambda whole: api.request("GET", f"/executions/{segment(whole)}").document,
        )
    )


@executions.command()
@click.argument("execution_id")
@click.option("--version", type=click.IntRange(1), help="Another version than it ran on.")
@as_json
@calling
def replay(api: Connection, execution_id: str, version: int | None, as_json: bool) -> None:
    """Run it again with its input; exit code 1 when that does not succeed."""

    def run_again(whole: str) -> Any:
        path = f"/executions/{segment(whole)}/replay"
        return api.request("POST", path, query={"version": version}).document

    try:
        both = with_whole_id(api, execution_id, run_again)
    except Refused as error:
        if error.problem.get("code") != "input_not_kept":
            raise
        raise click.ClickException(f"{error}\n{KEEPING}") from error
    original, again = both["original"], both["replay"]
    if as_json:
        show_json(both)
    else:
        why = f": {original['error']['message']}".partition("\n")[0] if original["error"] else ""
        where = f"version {original['deployment_version']}, {original['execution_id']}"
        click.echo(f"original  {original['status']}{printable(why)}  ({where})", err=True)
        show_result(again, as_json=False, label="replay    ")
        # Without it nobody knows what it was, or the caller may not read it.
        if original["output"] is not None and not original.get("output_cut"):
            verdict = _difference(original["output"], again["output"])
            click.echo(f"output: {printable(verdict)}", err=True)
    if again["status"] != "succeeded":
        raise SystemExit(1)


def _difference(before: Any, after: Any) -> str:
    """Return in a few words whether two outputs are the same, and where they begin to differ."""
    pair = [before, after]
    if _is_data(before) and _is_data(after):
        pair = [before["data"], after["data"]]
    texts = [json.dumps(each, ensure_ascii=False, sort_keys=True) for each in pair]
    if after is None:
        texts[1] = "none"
    if texts[0] == texts[1]:
        return "same"
    start = 0
    if max(map(len, texts)) > SHOWN:
        alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*texts, strict=False))
        start = max(0, sum(1 for _ in alike) - BEFORE)
    return f"differs ({' -> '.join(_part(each, start) for each in texts)})"


def _is_data(output: Any) -> bool:
    return isinstance(output, dict) and output.get("ok") is True and set(output) == {"ok", "data"}


def _part(text: str, start: int) -> str:
    part = text[start : start + SHOWN]
    return f"{'…' if start else ''}{part}{'…' if start + SHOWN < len(text) else ''}"
