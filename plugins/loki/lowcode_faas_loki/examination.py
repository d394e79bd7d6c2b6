"""What ``lowcode-faas doctor`` looks at: whether Loki would take what is pushed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Final

import requests

from lowcode_faas_core.findings import Finding, clock, failure, fine
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_loki.settings import LokiSettings
from lowcode_faas_loki.sink import LokiSink, Patience

__all__ = ["LookAtLoki"]

SUBJECT: Final = "Loki"
#: What Loki answers to a push without entries, by release: it was let in, and read.
TAKEN: Final = frozenset({200, 204, 400, 422})


class LookAtLoki(Examination):
    """Pushes no entries: nothing is stored."""

    def __init__(self, settings: LokiSettings) -> None:
        self._settings = settings

    def findings(self) -> Iterator[Finding]:
        """See :class:`Examination`."""
        host = self._settings.host
        with closing(LokiSink(self._settings, {}, Patience(answer_s=5.0))) as sink:
            try:
                asked = time.time()
                answer = sink.push_nothing()
                answered = time.time()
            except requests.RequestException as error:
                yield failure(SUBJECT, f"{host} cannot be reached ({type(error).__name__})")
                return
        status = answer.status_code
        if status in (401, 403):
            yield failure(SUBJECT, f"{host} refuses our tenant, user or password ({status})")
        elif status not in TAKEN:
            yield failure(SUBJECT, f"{host} answers a push with {status}: is that Loki's address?")
        else:
            yield fine(SUBJECT, f"{host} takes pushes")
        if date := answer.headers.get("Date"):
            yield clock(SUBJECT, parsedate_to_datetime(date).timestamp(), asked, answered)
