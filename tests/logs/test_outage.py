"""Two hundred thousand lines through each sink, which goes away in the middle and comes back."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from lowcode_faas_promtail_json import JsonSink
from lowcode_faas_stdout import StdoutSink

from lowcode_faas_core.delivery import QUEUE_BYTES, QUEUE_EVENTS, LogRouter
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.model import LogEvent
from lowcode_faas_core.testing.memory_log_sink import MemoryLogSink
from lowcode_faas_core.testing.samples import sample_event

LINES = 200_000
RUNS = 4


class Reader:
    """Reads a FIFO on and on; can be killed, and another one started, without losing a byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = bytearray()
        self._stop = threading.Event()
        self._start()

    def _start(self) -> None:
        self._stop.clear()
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                chunk = b""
            self.data += chunk
            if not chunk:
                if self._stop.is_set():
                    return
                time.sleep(0.001)

    def kill(self) -> None:
        # What is in the pipe is read first: with the last reader it would be lost uncounted.
        self._stop.set()
        self._thread.join()
        os.close(self._descriptor)

    def restore(self) -> None:
        self._start()


def pump(router: LogRouter, kill: Callable[[], None], restore: Callable[[], None]) -> None:
    """Emit all lines, in turn from each of the runs; the sink is gone for the middle fifth."""
    for n in range(LINES):
        if n == LINES * 2 // 5:
            kill()
        if n == LINES * 3 // 5:
            restore()
        router.emit(sample_event(n // RUNS + 1, f"line {n}", run_id=f"run-{n % RUNS}"))
        # As a service would be: slower on the whole than its sinks.
        while n % 1000 == 0 and not router.degraded() and router.backlog() > QUEUE_EVENTS * 3 // 4:
            time.sleep(0.002)


def numbers_of(line: str) -> int | None:
    """Return the number of a whole line, ``None`` of a torn one."""
    try:
        message = json.loads(line)["message"] if line[0] == "{" else line.partition(" | ")[2]
        return int(message.removeprefix("line ")) if message.startswith("line ") else None
    except (ValueError, KeyError, IndexError):
        return None


@pytest.mark.fault(88)
@pytest.mark.parametrize("make", [StdoutSink, JsonSink])
def test_standard_output_that_breaks_and_comes_back(
    tmp_path: Path, make: Callable[[int], LogSink]
) -> None:
    # Given a sink whose reader goes away for a fifth of the lines
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = Reader(path)
    writer = os.open(path, os.O_WRONLY)
    router = LogRouter({"sink": make(writer)})
    pump(router, reader.kill, reader.restore)
    while router.backlog():
        time.sleep(0.005)
    router.close()
    os.close(writer)
    reader.kill()
    # Then every line arrived once or is counted, and those of each run are in order
    found = [numbers_of(line) for line in reader.data.decode().split("\n")[:-1]]
    whole = [number for number in found if number is not None]
    counts = router.counts()["sink"]
    assert counts["delivered"] + counts["dropped"] == LINES
    assert counts["delivered"] == len(whole)
    assert counts["reasons"]["sink_failed"] > 0
    assert len(found) - len(whole) <= 1
    for run in range(RUNS):
        own = [number for number in whole if number % RUNS == run]
        assert own == sorted(set(own))
    assert whole[-1] == LINES - 1


class Gate(MemoryLogSink):
    """Takes nothing while it is shut, and waits."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()

    def emit(self, batch: list[LogEvent]) -> None:  # type: ignore[override]
        self.open.wait(30)
        super().emit(batch)


def test_a_sink_that_hangs_holds_a_bounded_queue_and_the_newest_events() -> None:
    gate = Gate()
    router = LogRouter({"gate": gate})
    for n in range(1, 1001):
        router.emit(sample_event(n, "x" * 100_000))
    waiting = router.backlog()
    assert waiting * 100_000 < QUEUE_BYTES + (4 << 20)
    gate.open.set()
    router.close()
    counts = router.counts()["gate"]
    assert counts["delivered"] + counts["dropped"] == 1000
    assert gate.events[-1].seq == 1000


class Lingering(MemoryLogSink):
    """Waits very long for a batch of very many, and takes it at once."""

    batch_events = 1000
    linger_s = 20.0


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
def test_a_batch_of_long_lines_is_full_by_its_bytes(pause_s: float) -> None:
    """The queue holds fewer long lines than a batch has events, and would be thrown away for it."""
    sink = Lingering()
    router = LogRouter({"lingering": sink})
    began = time.monotonic()
    for n in range(1, 151):
        router.emit(sample_event(n, "x" * 32_768))
        time.sleep(pause_s)
    while router.backlog() * 32_768 > 1 << 20:
        time.sleep(0.005)
        assert time.monotonic() - began < 15
    router.close()
    assert [event.seq for event in sink.events] == list(range(1, 151))
    assert router.counts()["lingering"]["dropped"] == 0


def test_a_failing_sink_touches_no_other(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = MemoryLogSink(), MemoryLogSink()
    bad.failure = RuntimeError("no room")
    router = LogRouter({"good": good, "bad": bad})
    for n in range(1, 2001):
        router.emit(sample_event(n))
    while router.backlog():
        time.sleep(0.005)
    assert router.degraded() == ["log sink bad: RuntimeError: no room"]
    router.close()
    router.emit(sample_event(2001))
    assert [event.seq for event in good.events] == list(range(1, 2001))
    assert router.counts()["bad"]["dropped"] == 2001
    # A warning at once and one at the end, whatever the number of batches.
    warnings = [r.message for r in caplog.records if "log sink bad lost" in r.message]
    assert 1 <= len(warnings) <= 2
    assert all("no room" in warning for warning in warnings)


def test_many_threads_lose_no_count() -> None:
    class Never(MemoryLogSink):
        def emit(self, batch: list[LogEvent]) -> None:  # type: ignore[override]
            raise ValueError("never")

    router = LogRouter({"never": Never()})
    threads = [
        threading.Thread(target=lambda: [router.emit(sample_event(n)) for n in range(1, 10_001)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    router.close()
    assert router.counts()["never"]["dropped"] == 40_000
