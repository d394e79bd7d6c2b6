"""For those who start gunicorn themselves: ``gunicorn -c conf/gunicorn.conf.py``.

Serves the dispatcher with exactly the settings of ``lowcode-faas dispatcher``, without its report
of start-up errors.
"""

from __future__ import annotations

import os
from typing import Any

from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.server import announce, gunicorn_settings, prepare
from lowcode_faas_core.settings import read
from lowcode_faas_core.startup import ProcessRole

_server = read(os.environ, ServerSettings)
globals().update(gunicorn_settings(_server, ProcessRole.DISPATCHER))
wsgi_app = f"lowcode_faas_core.dispatcher:create_app(processes={_server.workers})"


def on_starting(server: Any) -> None:
    """Refuse what cannot hold, and make the first token before any worker is there."""
    prepare(server, os.environ, ProcessRole.DISPATCHER)


def when_ready(server: Any) -> None:
    """Say how the service is laid out."""
    announce(server, os.environ, ProcessRole.DISPATCHER)
