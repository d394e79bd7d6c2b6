"""The two services: ``lowcode-faas dispatcher`` and ``lowcode-faas worker``."""

from __future__ import annotations

import os

import click

from lowcode_faas_core.server import serve
from lowcode_faas_core.startup import ProcessRole

__all__ = ["dispatcher", "worker"]


@click.command()
def dispatcher() -> None:
    """Serve the public API on LOWCODE_FAAS_LISTEN."""
    serve(dict(os.environ), ProcessRole.DISPATCHER)


@click.command()
def worker() -> None:
    """Run invocations for dispatchers on LOWCODE_FAAS_WORKER_LISTEN."""
    serve(dict(os.environ), ProcessRole.WORKER)
