"""Fetches in threads of their own, so that one deadline holds for all a server can do slowly."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import ClassVar, Final

from lowcode_faas_core.errors import CapacityError, SourceUnavailable
from lowcode_faas_core.interfaces.source import FetchedSource, FetchLimits, SourceFetcher
from lowcode_faas_http_source.connecting import Abort
from lowcode_faas_http_source.requesting import Request, request
from lowcode_faas_http_source.settings import HttpSourceSettings
from lowcode_faas_http_source.urls import check_url

__all__ = ["HttpSourceFetcher"]

#: Fetches of one process at once; those given up count until their threads end, which a resolver
#: that does not answer can put off for half a minute.
MAX_AT_ONCE: Final = 16
#: How long ``close`` waits for threads whose connections it has ended, in seconds.
CLOSE_S: Final = 2.0


@dataclass(eq=False)
class _Fetch:
    request: Request
    abort: Abort
    answer: Future[FetchedSource | None] = field(default_factory=Future)


class HttpSourceFetcher(SourceFetcher):
    """Fetches https URLs, and http ones where the operator allows it."""

    schemes: ClassVar[frozenset[str]] = frozenset(("https", "http"))

    def __init__(self, settings: HttpSourceSettings) -> None:
        self._settings = settings
        self._running: dict[threading.Thread, _Fetch] = {}
        self._lock = threading.Lock()
        self._closed = False

    def fetch(self, url: str, limits: FetchLimits, etag: str | None = None) -> FetchedSource | None:
        """Return what is there, or ``None`` when it still is what ``etag`` named."""
        target = check_url(url, self._settings)
        abort = Abort()
        fetch = _Fetch(Request(target, self._settings, limits, etag, abort), abort)
        thread = threading.Thread(target=self._run, args=(fetch,), name="source-fetch", daemon=True)
        with self._lock:
            if self._closed:
                raise SourceUnavailable("the service is shutting down")
            if len(self._running) >= MAX_AT_ONCE:
                raise CapacityError(f"{MAX_AT_ONCE} sources are being fetched")
            self._running[thread] = fetch
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be had
            self._running.pop(thread, None)
            raise CapacityError("no thread can be had to fetch the source") from error
        try:
            return fetch.answer.result(limits.timeout_s)
        except TimeoutError:
            raise fetch.request.unavailable() from None
        finally:
            abort.now()

    def close(self) -> None:
        """End every fetch, and wait a little for its thread."""
        with self._lock:
            self._closed = True
            running = dict(self._running)
        for fetch in running.values():
            fetch.abort.now()
        for thread in running:
            if thread.ident is not None:
                thread.join(CLOSE_S)

    def _run(self, fetch: _Fetch) -> None:
        try:
            fetch.answer.set_result(request(fetch.request))
        except BaseException as error:  # it is raised where the answer is waited for
            fetch.answer.set_exception(error)
        finally:
            fetch.abort.release()
            with self._lock:
                self._running.pop(threading.current_thread(), None)
