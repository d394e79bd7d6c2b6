"""Every route says what its callers need."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from lowcode_faas_core import dispatcher, worker
from lowcode_faas_core.callers import PUBLIC, scope_of
from lowcode_faas_core.catalogue import Catalogue
from lowcode_faas_core.services import SERVICES

MAY_BE_PUBLIC = {"/healthz", "/readyz", "/limits", "/openapi.json", "/docs"}


def routes(app: Flask) -> dict[str, object]:
    return {rule.rule: app.view_functions[rule.endpoint] for rule in app.url_map.iter_rules()}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Select every plugin that adds routes, too."""
    adding = [
        each.name
        for each in Catalogue.installed().candidates
        if each.distribution.startswith("lowcode-faas-")
        and hasattr(each.load(), "lowcode_faas_app_created")
    ]
    return {
        "LOWCODE_FAAS_LISTEN": "127.0.0.1:0",
        "LOWCODE_FAAS_WORKER_LISTEN": "127.0.0.1:0",
        "LOWCODE_FAAS_DATA_DIR": str(tmp_path),
        "LOWCODE_FAAS_RUNNER": "process",
        "LOWCODE_FAAS_STOCK": "0",
        "LOWCODE_FAAS_PLUGINS": ",".join(adding),
    }


def test_every_route_of_the_api_declares_a_scope(environ: dict[str, str]) -> None:
    app = dispatcher.create_app(environ)
    try:
        scopes = {rule: scope_of(view) for rule, view in routes(app).items()}  # type: ignore[arg-type]
    finally:
        app.extensions[SERVICES].close()
    assert len(scopes) > 20
    assert [rule for rule, scope in scopes.items() if scope is None] == []
    assert {rule for rule, scope in scopes.items() if scope is PUBLIC} <= MAY_BE_PUBLIC


def test_only_probes_of_the_worker_need_no_secret(environ: dict[str, str]) -> None:
    app = worker.create_app(environ)
    try:
        found = {rule for rule, view in routes(app).items() if scope_of(view) is PUBLIC}  # type: ignore[arg-type]
    finally:
        app.extensions[SERVICES].close()
    assert found == {"/healthz", "/readyz"}
