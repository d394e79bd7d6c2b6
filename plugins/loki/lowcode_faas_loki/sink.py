"""Pushes batches of events, tries again where that helps, and counts what is given up."""

from __future__ import annotations

import email.utils
import gzip
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec
import requests
from requests.auth import HTTPBasicAuth

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.interfaces.log_sink import LogSink, Undelivered
from lowcode_faas_core.model import LogEvent
from lowcode_faas_core.settings import PREFIX
from lowcode_faas_loki.entries import Entry, chunks, entry_of
from lowcode_faas_loki.settings import LokiSettings

__all__ = ["LokiSink", "Patience"]

#: Longest wait a ``Retry-After`` may ask for, in seconds.
RETRY_AFTER_S: Final = 60.0
#: Lines of one batch that may each cost a request to find; the rest of the batch goes with them.
REFUSED_LINES: Final = 50
#: Characters of Loki's own words that are passed on.
REASON_CHARS: Final = 200


@dataclass(frozen=True)
class Patience:
    """How long a push may take, and how often it is tried."""

    attempts: int = 8
    #: The wait before the second attempt; doubles each time, and half of it is left to chance.
    first_s: float = 0.25
    most_s: float = 10.0
    connect_s: float = 3.0
    answer_s: float = 10.0


class _Refused(Exception):
    """Raised when these rows are not taken, and would not be later either."""


class _Unreachable(Exception):
    """Raised when nothing can be delivered now, whatever the rows."""


class LokiSink(LogSink):
    """One stream with constant labels; ids are in the line, and beside it for those who index."""

    batch_events: ClassVar[int] = 1000
    linger_s: ClassVar[float] = 0.5

    def __init__(
        self, settings: LokiSettings, labels: Mapping[str, str], patience: Patience | None = None
    ) -> None:
        """Prepare; nothing is connected before the first push.

        :raises ConfigurationError: there is no URL.
        """
        if not settings.url:
            raise ConfigurationError(
                [f"{PREFIX}LOG_LOKI_URL must be set for the log sink loki, like http://loki:3100"]
            )
        self._settings = settings
        self._labels = dict(labels)
        self._patience = patience or Patience()
        self._session = requests.Session()
        self._session.headers.update(
            {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        )
        if settings.tenant:
            self._session.headers["X-Scope-OrgID"] = settings.tenant
        if settings.username:
            # As bytes: requests would write text as Latin-1.
            self._session.auth = HTTPBasicAuth(
                settings.username.encode(), settings.password.encode()
            )
        self._ending = threading.Event()
        self._deadline_ns = 0
        #: ``time.monotonic`` before which Loki has asked not to be called.
        self._not_before = 0.0

    def emit(self, batch: Sequence[LogEvent]) -> None:
        """Push a batch; blocks while it is tried again.

        :raises Undelivered: with how many events were given up.
        """
        metadata = self._settings.structured_metadata
        rows = [entry_of(event, structured_metadata=metadata) for event in batch]
        left, lost, reason = len(rows), 0, ""
        for chunk in chunks(rows):
            try:
                refused, why = self._push(chunk)
            except _Unreachable as error:
                # What was delivered before in this batch stays delivered; the rest would fail too.
                raise Undelivered(lost + left, str(error)) from error
            left -= len(chunk)
            lost, reason = lost + refused, why or reason
        if lost:
            raise Undelivered(lost, reason)

    def flush(self, deadline_ns: int) -> int:
        """Answer 0: nothing is held back between batches."""
        del deadline_ns
        return 0

    def closing(self, deadline_ns: int) -> None:
        """Stop waiting between attempts, and cut short what is under way next."""
        self._deadline_ns = deadline_ns
        self._ending.set()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def push_nothing(self) -> requests.Response:
        """Push no entries, once, and return the answer: it tells whether ours would be taken.

        :raises requests.RequestException: there is none.
        """
        body = gzip.compress(msgspec.json.encode({"streams": []}))
        return self._session.post(
            self._settings.url, data=body, timeout=self._timeout(), allow_redirects=False
        )

    def _push(self, rows: list[Entry]) -> tuple[int, str]:
        """Push rows; return how many were refused for what they are, and why.

        A refused batch is halved until the rows that are to blame stand alone.
        """
        refused, reason = 0, ""
        waiting = [rows]
        while waiting:
            part = waiting.pop()
            try:
                self._deliver(part)
            except _Refused as error:
                reason = str(error)
                if len(part) == 1 or refused >= REFUSED_LINES:
                    refused += len(part)
                else:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
        return refused, reason

    def _deliver(self, rows: list[Entry]) -> None:
        body = gzip.compress(
            msgspec.json.encode({"streams": [{"stream": self._labels, "values": rows}]}), 1
        )
        patience = self._patience
        for attempt in range(1, patience.attempts + 1):
            self._wait(self._not_before - time.monotonic())
            last = self._ending.is_set()
            pause = min(patience.most_s, patience.first_s * 2 ** (attempt - 1))
            trouble, retry_after = self._attempt(body)
            if trouble is None:
                return
            self._not_before = time.monotonic() + max(
                retry_after,
                pause * (0.5 + random.random() / 2),  # noqa: S311  # jitter, no secret
            )
            if last:
                break
        raise _Unreachable(trouble)

    def _attempt(self, body: bytes) -> tuple[str | None, float]:
        """Try once; return what went wrong, if trying again may help, and how long to wait."""
        host = self._settings.host
        try:
            answer = self._session.post(
                self._settings.url, data=body, timeout=self._timeout(), allow_redirects=False
            )
        except requests.ReadTimeout as error:
            # It may have been taken: sending it again could print every line twice.
            raise _Unreachable(f"{host} did not answer in time") from error
        except requests.ConnectionError as error:
            return f"{host} cannot be reached ({type(error).__name__})", 0.0
        except requests.RequestException as error:
            raise _Unreachable(f"{host}: {type(error).__name__}") from error
        status = answer.status_code
        if 200 <= status < 300:
            return None, 0.0
        words = " ".join(answer.text[:REASON_CHARS].split())
        trouble = f"{host} answered {status} {words}".rstrip()
        if status == 429 or status >= 500:
            return trouble, _retry_after(answer.headers.get("Retry-After", ""))
        if status in (400, 413):
            raise _Refused(trouble)
        raise _Unreachable(trouble)

    def _timeout(self) -> tuple[float, float]:
        connect, answer = self._patience.connect_s, self._patience.answer_s
        if self._ending.is_set():
            left = max(0.05, (self._deadline_ns - time.monotonic_ns()) / 1e9)
            return min(connect, left), min(answer, left)
        return connect, answer

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._ending.wait(seconds)


def _retry_after(value: str) -> float:
    """Return the seconds of a ``Retry-After``, 0 when there is none that can be read."""
    try:
        if value.strip().isdigit():
            seconds = float(value)
        else:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_S)
