"""What every log sink holds: subclass :class:`LogSinkContract` and give it ``sink`` and ``read``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from lowcode_faas_core.interfaces.log_sink import LogSink, Undelivered
from lowcode_faas_core.testing.samples import sample_event

__all__ = ["LogSinkContract"]

#: Messages that forge lines, fields, colours or encodings where a sink does not escape them.
ODD_MESSAGES = [
    "",
    " ",
    "two\nlines",
    "carriage\rreturn",
    '{"level":"error","run_id":"victim"}',
    "\x1b[2J\x1b[31mred",
    "nul \0 and \x7f",
    "\u2028\u2029",
    "ü 🙂 \ud7ff\ue000",
    "x" * 100_000,
]


def _soon() -> int:
    return time.monotonic_ns() + 5_000_000_000


class LogSinkContract:
    """Give a fixture ``sink``, and ``read``: a function that returns one string an event delivered.

    ``read`` looks past the sink at where its events arrive, in the order of arrival; each string
    must hold the event's message, escaped or not. Optional: ``broken``.
    """

    @pytest.fixture
    def sink(self) -> LogSink:
        """Return a new sink; overridden by the subclass."""
        raise NotImplementedError("a subclass of LogSinkContract gives the fixture `sink`")

    @pytest.fixture
    def read(self) -> Callable[[], list[str]]:
        """Return the reader; overridden by the subclass."""
        raise NotImplementedError("a subclass of LogSinkContract gives the fixture `read`")

    @pytest.fixture
    def broken(self) -> LogSink | None:
        """**Optional.** Return a sink whose other side is gone: a closed pipe, a server that is down."""
        return None

    def test_everything_emitted_and_flushed_has_arrived(
        self, sink: LogSink, read: Callable[[], list[str]]
    ) -> None:
        """After ``flush`` answered 0 every event is where it belongs, in order, once."""
        sink.emit([sample_event(n, f"first-{n:03}") for n in range(1, 101)])
        sink.emit([sample_event(n, f"second-{n:03}") for n in range(101, 151)])
        assert sink.flush(_soon()) == 0
        expected = [f"first-{n:03}" for n in range(1, 101)]
        expected += [f"second-{n:03}" for n in range(101, 151)]
        got = read()
        assert len(got) == len(expected)
        assert all(message in event for message, event in zip(expected, got, strict=True))

    @pytest.mark.parametrize("message", ODD_MESSAGES, ids=range(len(ODD_MESSAGES)))
    def test_any_message_is_one_event(
        self, sink: LogSink, read: Callable[[], list[str]], message: str
    ) -> None:
        """No message becomes two events, ends the sink, or hides the next one."""
        sink.emit([sample_event(1, message), sample_event(2, "the next one")])
        assert sink.flush(_soon()) == 0
        got = read()
        assert len(got) == 2
        assert "the next one" in got[1]

    def test_a_long_message_arrives_whole(
        self, sink: LogSink, read: Callable[[], list[str]]
    ) -> None:
        """A message longer than any buffer or pipe holds is not cut: the core has cut it already."""
        message = "".join(f"{n:09} " for n in range(20_000))
        sink.emit([sample_event(1, message)])
        assert sink.flush(_soon()) == 0
        assert message in read()[0]

    def test_a_loss_is_never_silent(self, broken: LogSink | None) -> None:
        """What could not be delivered is raised by ``emit``, or counted by ``flush``."""
        if broken is None:
            pytest.skip("this sink gives no broken")
        try:
            broken.emit([sample_event(n, f"lost-{n}") for n in range(1, 4)])
            lost = broken.flush(time.monotonic_ns() + 500_000_000)
        except Undelivered as error:
            lost = error.count
        except Exception:
            lost = 3  # none of the batch was delivered, and the caller counts it
        assert lost == 3

    def test_flush_keeps_its_deadline(self, broken: LogSink | None) -> None:
        """A service that stops waits for nobody: ``flush`` returns within a second of its deadline."""
        if broken is None:
            pytest.skip("this sink gives no broken")
        with suppress(Exception):
            broken.emit([sample_event(n, f"held-{n}") for n in range(1, 4)])
        began = time.monotonic()
        with suppress(Exception):
            broken.flush(time.monotonic_ns() + 300_000_000)
        assert time.monotonic() - began < 1.3

    def test_an_empty_batch_is_nothing(self, sink: LogSink, read: Callable[[], list[str]]) -> None:
        """An empty batch delivers nothing and raises nothing."""
        sink.emit([])
        assert sink.flush(_soon()) == 0
        assert read() == []

    def test_late_and_truncated_events_are_delivered(
        self, sink: LogSink, read: Callable[[], list[str]]
    ) -> None:
        """Marks, platform events and the root collection are no reason to lose an event."""
        sink.emit(
            [
                sample_event(1, "tardy", late=True),
                sample_event(2, "cut", truncated=True),
                sample_event(3, "of the platform", log_stream="platform", level="warn"),
                sample_event(4, "of the root", collection_path=""),
            ]
        )
        assert sink.flush(_soon()) == 0
        assert len(read()) == 4

    def test_flush_of_nothing_is_done_at_once(self, sink: LogSink) -> None:
        """``flush`` answers 0 when nothing is held back, also with a deadline that has passed."""
        assert sink.flush(time.monotonic_ns()) == 0

    def test_close_may_be_called_twice(self, sink: LogSink) -> None:
        """The second ``close`` does nothing."""
        sink.close()
        sink.close()
