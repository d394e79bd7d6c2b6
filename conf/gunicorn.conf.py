"""For those who start gunicorn themselves: ``gunicorn -c conf/gunicorn.conf.py``.

Serves the dispatcher with exactly the settings of ``lowcode-faas dispatcher``, without its report
of start-up errors.
"""

from __future__ import annotations

import os
from typing import Any

from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.preflight import preflight
from lowcode_faas_core.server import build_after_the_fork, gunicorn_settings, show_first_token
from lowcode_faas_core.settings import read
from lowcode_faas_core.startup import ProcessRole, Startup

_server = read(os.environ, ServerSettings)
globals().update(gunicorn_settings(_server, ProcessRole.DISPATCHER))
wsgi_app = f"lowcode_faas_core.dispatcher:create_app(processes={_server.workers})"


def on_starting(server: Any) -> None:
    """Make the first token before any worker is there; in a child, which may import plugins."""
    build_after_the_fork(server)
    preflight(lambda: show_first_token(Startup.read(os.environ, ProcessRole.DISPATCHER)))
