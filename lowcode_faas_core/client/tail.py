"""Follows a function: finds its runs by looking again and again, and reads what each prints.

The API lists runs and follows one of them at a time; there is no stream of all runs of a function.
A run that cannot be followed now, since as many follow as the service lets, is read when it ended.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from lowcode_faas_core.client.connection import Connection, Refused, Unreachable, segment
from lowcode_faas_core.client.events import events

__all__ = ["Printed", "Tail"]

#: Time between two looks for new runs, in seconds.
LOOK_S: Final = 1.0
#: Time between two looks for what is under way, in seconds: the service writes down what runs
#: while somebody has asked for it within the last thirty.
ASK_S: Final = 10.0
#: How far behind the newest run another may turn up, in seconds: a run is listed when the process
#: it ran in has written it down, and clocks of several machines differ.
BEHIND: Final = timedelta(seconds=10)
#: Runs asked for at a time.
PAGE: Final = 500
#: Refusals that are over soon.
BUSY: Final = (429, 502, 503, 504)

Run = dict[str, Any]


@dataclass(frozen=True)
class Printed:
    """One line, and the record of the run that printed it as far as it was known."""

    run: Run
    line: dict[str, Any]


@dataclass
class _Reading:
    run: Run
    #: Number of the last line that was read.
    after: int = 0
    #: Whether a thread reads its lines as they come.
    live: bool = False


class Tail:
    """The runs of one function from now on; for one thread."""

    def __init__(self, api: Connection, collection_path: str, name: str) -> None:
        self._api = api
        self._collection_path = collection_path
        self._filter = {"function": name, "collection_path": collection_path or None}
        #: When each run began that was listed, as far back as one may still turn up.
        self._seen: dict[str, str] = {}
        self._since: str | None = None
        self._asked_at = -ASK_S
        #: Runs whose lines were not all read.
        self._readings: dict[str, _Reading] = {}
        self._news: queue.SimpleQueue[tuple[_Reading, dict[str, Any] | None]] = queue.SimpleQueue()

    @property
    def found(self) -> bool:
        """Whether there was any run."""
        return self._since is not None

    def newest(self, number: int) -> Iterator[Printed]:
        """Yield what the newest runs have printed, oldest first; call it before :meth:`follow`.

        Earlier runs are left out from then on.
        """
        shown: list[Run] = []
        for run in self._listed({**self._filter, "limit": PAGE}):
            self._since = self._since or _before(run["started_at"])
            if len(shown) < number:
                shown.append(run)
            elif run["started_at"] < self._since:
                break
            elif run["status"] == "running":
                continue  # it is found again
            self._seen[run["execution_id"]] = run["started_at"]
        for run in reversed(shown):
            # All of them: what a run that printed nothing left behind may have printed since.
            yield from self._lines(self._enter(run))

    def follow(self) -> Iterator[Printed | Unreachable | Refused]:
        """Yield lines as they come, for ever; and what went wrong, when it did not the time before.

        A service that cannot be reached is asked again; nothing is yielded twice.
        """
        look_at, well = 0.0, True
        while True:
            now = time.monotonic()
            if now >= look_at:
                try:
                    for reading in self._look(now):
                        if reading.run["status"] == "running":
                            self._read_live(reading)
                        else:
                            yield from self._read(reading)
                    well = True
                except (Unreachable, Refused) as error:
                    if isinstance(error, Refused) and error.status not in BUSY:
                        raise
                    if well:
                        yield error
                    well = False
                look_at = time.monotonic() + LOOK_S
            try:
                reading, line = self._news.get(timeout=max(0.0, look_at - time.monotonic()))
            except queue.Empty:
                continue
            if line is None:
                reading.live = False  # it ended, or its stream broke: the next look tells
            elif (printed := self._take(reading, line)) is not None:
                yield printed

    def _look(self, now: float) -> list[_Reading]:
        """Return what is to be read: runs not seen before, and those that nobody reads."""
        found: list[Run] = []
        if now - self._asked_at >= ASK_S:
            # However long ago they began.
            found += self._listed({**self._filter, "status": "running", "limit": PAGE})
            self._asked_at = now
        found += self._listed({**self._filter, "since": self._since, "limit": PAGE})
        for reading in list(self._readings.values()):
            if not reading.live:
                self._look_at(reading)
        for run in sorted(found, key=lambda run: str(run["started_at"])):
            if run["execution_id"] not in self._seen:
                self._enter(run)
            self._seen[run["execution_id"]] = run["started_at"]
        if self._seen:
            since = self._since = _before(max(self._seen.values()))
            self._seen = {
                identity: began
                for identity, began in self._seen.items()
                if began >= since or identity in self._readings
            }
        return [reading for reading in self._readings.values() if not reading.live]

    def _look_at(self, reading: _Reading) -> None:
        try:
            reading.run = self._api.request("GET", _path(reading.run)).document
        except Refused as error:
            if error.status != 404:
                raise
            del self._readings[reading.run["execution_id"]]  # too old to be kept

    def _enter(self, run: Run) -> _Reading:
        return self._readings.setdefault(run["execution_id"], _Reading(run))

    def _listed(self, query: dict[str, object]) -> Iterator[Run]:
        """Yield what is listed of this function: the filter takes in those below it, too."""
        for run in self._api.pages("/executions", query):
            if run["collection_path"] == self._collection_path:
                yield run

    def _read(self, reading: _Reading) -> Iterator[Printed]:
        """Yield the lines that are there, of a run that ended for the last time.

        Of those that come thick and fast, one that succeeded and printed nothing is not asked for.
        """
        run = reading.run
        printed = run["logs"] is None or run["logs"]["lines"] or run["logs"]["truncated"]
        # What the platform says is not counted, and a run that did not succeed has such a line.
        if printed or run["status"] != "succeeded":
            yield from self._lines(reading)
        else:
            del self._readings[run["execution_id"]]

    def _lines(self, reading: _Reading) -> Iterator[Printed]:
        for line in self._api.pages(f"{_path(reading.run)}/logs", {"limit": PAGE}):
            if (printed := self._take(reading, line)) is not None:
                yield printed
        if reading.run["status"] != "running":
            del self._readings[reading.run["execution_id"]]

    def _read_live(self, reading: _Reading) -> None:
        """Have a thread read the lines as they come: a daemon, which ends with the process."""
        reading.live = True
        threading.Thread(target=self._stream, args=(reading,), daemon=True).start()

    def _take(self, reading: _Reading, line: dict[str, Any]) -> Printed | None:
        if line["seq"] <= reading.after:
            return None
        reading.after = line["seq"]
        return Printed(reading.run, line)

    def _stream(self, reading: _Reading) -> None:
        path = f"{_path(reading.run)}/logs"
        try:
            stream = self._api.open(
                "GET", path, None, {"follow": 1}, stream=True, after=reading.after
            )
            for name, data in events(stream):
                if name == "end":
                    break
                self._news.put((reading, json.loads(data)))
        except (Unreachable, Refused):
            pass  # the next look finds out what became of it
        finally:
            self._news.put((reading, None))


def _path(run: Run) -> str:
    return f"/executions/{segment(run['execution_id'])}"


def _before(moment: str) -> str:
    """Return the moment from which on a run may still turn up, in the form the API writes."""
    earlier = datetime.fromisoformat(moment) - BEHIND
    return earlier.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
