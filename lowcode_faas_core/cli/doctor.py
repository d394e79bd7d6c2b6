"""``lowcode-faas doctor``: what works here, what will hurt, and what to do about it."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter

import click

from lowcode_faas_core.cli.starting import refusing
from lowcode_faas_core.doctor.rounds import examine
from lowcode_faas_core.findings import Finding, Level
from lowcode_faas_core.startup import ProcessRole, Startup

__all__ = ["doctor"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in ProcessRole]),
    default=ProcessRole.DISPATCHER.value,
    show_default=True,
    help="The service that is to run with this environment.",
)
@refusing
def doctor(as_json: bool, strict: bool, role: str) -> None:
    """Reach every backend and look at this machine, changing nothing.

    Run it as the service's user, with its environment. Exit code 0: nothing fails; 1: something
    does; 2: the environment cannot be used at all.
    """
    # What a backend would warn of in the service's log is a finding here.
    logging.basicConfig(handlers=[logging.NullHandler()])
    startup = Startup.read(dict(os.environ), ProcessRole(role))
    found: list[Finding] = []
    for finding in examine(startup):
        found.append(finding)
        if not as_json:
            click.echo(f"{finding.level:8} {finding.subject:15} {finding.text}")
    count = Counter(each.level for each in found)
    bad = bool(count[Level.FAILURE] or (strict and count[Level.WARNING]))
    if as_json:
        rows = [
            {"level": each.level.value, "subject": each.subject, "text": each.text}
            for each in found
        ]
        click.echo(json.dumps({"ok": not bad, "findings": rows}, indent=2))
    click.echo(
        f"{len(found)} findings: {count[Level.FAILURE]} failures, {count[Level.WARNING]} warnings",
        err=True,
    )
    raise SystemExit(int(bad))
