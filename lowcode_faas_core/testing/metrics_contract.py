"""What every metrics plugin holds: subclass :class:`MetricsContract` and give ``metrics``."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.interfaces.metrics import Metrics
from lowcode_faas_core.model import FunctionRef, StartKind

__all__ = ["MetricsContract"]

GREET = FunctionRef("org/team", "greet")
#: Text that a plugin may have in the name of a sink, or an operation.
ODD_TEXTS = ('a"b', "a\\b", "a\nb", "a{b}=c", "", "\u00e4\u20ac\U0001f600", "x" * 5000)


class MetricsContract:
    """Give ``metrics``: one that nothing was told yet."""

    @pytest.fixture
    def metrics(self) -> Metrics:
        """Return the metrics; overridden by the subclass."""
        raise NotImplementedError("a subclass of MetricsContract gives `metrics`")

    def test_it_shows_itself_before_anything_happened(self, metrics: Metrics) -> None:
        """A scrape right after the start is answered, whatever it accepts."""
        for accept in ("", "*/*", "text/plain", "application/json;q=0", "\x00;;=,"):
            exposition = metrics.show(accept)
            assert exposition.content_type.isprintable()
            exposition.body.decode()

    def test_what_it_is_told_changes_what_it_shows(self, metrics: Metrics) -> None:
        """Each kind of event leaves a trace."""
        tell: dict[str, Callable[[], None]] = {
            "began": metrics.invocation_began,
            "ended": lambda: metrics.invocation_ended(GREET, "failed", StartKind.WARM, 5_000_000),
            "rejected": metrics.invocation_rejected,
            "sandboxes": lambda: metrics.sandboxes({"idle": 7}, 3),
            "operation": lambda: metrics.operation("create_container", "ok", 5_000_000),
            "log events": lambda: metrics.log_events("stdout", 12),
            "drops": lambda: metrics.log_events_dropped("stdout", "queue_full", 4),
            "orphans": lambda: metrics.orphans_reaped(2),
            "deployed": lambda: metrics.deployed("created"),
        }
        for kind, event in tell.items():
            before = metrics.show("").body
            event()
            assert metrics.show("").body != before, kind

    def test_an_invocation_may_end_without_an_instance(self, metrics: Metrics) -> None:
        """One that came to no instance is told without a start, under the code of its problem."""
        metrics.invocation_began()
        metrics.invocation_ended(GREET, "no_capacity", None, 1)
        metrics.show("")

    @pytest.mark.parametrize("text", ODD_TEXTS)
    def test_odd_text_breaks_nothing(self, metrics: Metrics, text: str) -> None:
        """Names of sinks, reasons and operations come from plugins and may hold anything."""
        metrics.log_events(text, 1)
        metrics.log_events_dropped(text, text, 1)
        metrics.operation(text, text, 1)
        metrics.deployed(text)
        metrics.sandboxes({text: 1}, 0)
        metrics.show("").body.decode()

    def test_what_it_shows_is_bounded(self, metrics: Metrics) -> None:
        """Thousands of functions, codes and operations do not make it show thousands of lines each."""
        for number in range(5_000):
            metrics.invocation_began()
            metrics.invocation_ended(FunctionRef("", f"f{number}"), "succeeded", None, 1)
            metrics.operation(f"op{number}", "ok", 1)
            metrics.log_events_dropped("stdout", f"reason {number}", 1)
        assert len(metrics.show("").body) < 4 << 20

    def test_many_threads_tell_and_ask_at_once(self, metrics: Metrics) -> None:
        """Nothing raises while threads tell and others ask."""

        def tell(thread: int) -> None:
            for told in range(500):
                metrics.invocation_began()
                ref = FunctionRef("", f"f{(thread * 7 + told) % 50}")
                metrics.invocation_ended(ref, "succeeded", StartKind.WARM, told)

        with ThreadPoolExecutor(6) as threads:
            telling = [threads.submit(tell, number) for number in range(6)]
            while not all(each.done() for each in telling):
                metrics.show("")
            for each in telling:
                each.result()

    def test_telling_takes_no_time(self, metrics: Metrics) -> None:
        """It is on the path of every invocation: a pair of events stays far below a millisecond."""
        for _ in range(100):
            metrics.invocation_began()
            metrics.invocation_ended(GREET, "succeeded", StartKind.WARM, 1)
        fastest = 1.0
        for _ in range(20):
            began = time.perf_counter()
            for _ in range(50):
                metrics.invocation_began()
                metrics.invocation_ended(GREET, "succeeded", StartKind.WARM, 1)
            fastest = min(fastest, (time.perf_counter() - began) / 50)
        assert fastest < 0.0002

    def test_it_may_be_closed_twice_and_told_more(self, metrics: Metrics) -> None:
        """What happens while the process ends raises nothing."""
        metrics.close()
        metrics.close()
        metrics.invocation_ended(GREET, "cancelled", None, 1)
        metrics.log_events("stdout", 1)
