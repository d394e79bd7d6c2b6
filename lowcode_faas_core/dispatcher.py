"""The dispatcher's application: the public API around one process's services."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flask import Flask

from lowcode_faas_core.api.application import create_api
from lowcode_faas_core.services import SERVICES, Services
from lowcode_faas_core.startup import ProcessRole

__all__ = ["create_app"]


def create_app(environ: Mapping[str, str] = os.environ, *, processes: int = 1) -> Flask:
    """Build the application and everything it stands on.

    The caller closes ``app.extensions["lowcode_faas_services"]``. Address and port are the
    server's affair: whoever hosts this elsewhere decides who can connect.

    :raises StartError: with everything that is wrong in the environment.
    """
    services = Services.build(dict(environ), ProcessRole.DISPATCHER, processes=processes)
    try:
        app = create_api(services)
        app.extensions[SERVICES] = services
        services.startup.registry.app_created(app)
    except BaseException:
        services.close()
        raise
    return app
