"""A source is checked in a sandbox of its own, which ends afterwards."""

from __future__ import annotations

import time

import msgspec
import pytest

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.model import Language, SourceCheck, SourceFault
from lowcode_faas_core.sandbox.protocol import Kind
from lowcode_faas_core.testing.stub_launcher import Conversation, Gone

SECOND_NS = 1_000_000_000


class Judge(Conversation):
    """Answers a check with ``answer``, or ends without one."""

    answer: bytes | None = b'{"ok":true}'
    asked: list[dict[str, str]]

    def receive(self) -> tuple[bytes, bytes]:
        kind, payload = super().receive()
        if kind != Kind.CHECK:
            return kind, payload
        self.asked.append(msgspec.json.decode(payload))
        if self.answer is None:
            raise Gone
        self.send(Kind.CHECKED, self.answer)
        return self.receive()


@pytest.fixture
def judged(bench):
    def make(answer: bytes | None, **caps: int):
        return bench(conversation=type("J", (Judge,), {"answer": answer, "asked": []}), **caps)

    return make


def check(b, source=b"let", language=Language.TYPESCRIPT, seconds=5.0):
    return b.runner.check_source(source, language, time.monotonic_ns() + int(seconds * SECOND_NS))


def test_what_is_wrong_is_one_line_with_its_place(judged, until):
    b = judged(b'{"ok":false,"code":"syntax_error","message":"No\\nway","line":3,"column":7}')
    found = check(b)
    assert found == SourceCheck(checked=True, fault=SourceFault("No way", 3, 7))
    assert str(found.fault) == "line 3, column 7: No way"
    assert b.launcher.conversation.asked == [{"source": "let", "file": "source.mts"}]
    until(lambda: b.launcher.living() == 0)


def test_a_place_that_is_not_known_is_left_out(judged):
    b = judged(b'{"ok":false,"message":"","line":null,"column":null}')
    found = check(b)
    assert found == SourceCheck(checked=True, fault=SourceFault("it does not compile"))
    assert str(found.fault) == "it does not compile"


def test_a_sandbox_of_the_stock_is_taken_and_ends(judged, until):
    b = judged(b'{"ok":true}', stock=1)
    until(lambda: b.runner.stats()["stock"] == 1)
    first = b.launcher.started[0]
    assert check(b) == SourceCheck(checked=True)
    until(lambda: first.ended(0) is not None)


@pytest.mark.parametrize("answer", [None, b"{", b'{"ok":"maybe"}'])
def test_a_sandbox_that_gives_no_answer_has_found_nothing(judged, until, answer):
    b = judged(answer)
    assert check(b) == SourceCheck(checked=False)
    until(lambda: b.launcher.living() == 0)


def test_where_no_sandbox_starts_or_answers_in_time_nothing_is_found(bench, until):
    b = bench()  # its sandboxes do not answer checks at all
    assert check(b, seconds=0.1) == SourceCheck(checked=False)
    until(lambda: b.launcher.living() == 0)
    b.launcher.failure = RunnerUnavailable("no")
    assert check(b) == SourceCheck(checked=False)


def test_what_is_not_utf8_is_no_module(judged, until):
    b = judged(b'{"ok":true}')
    assert check(b, b"\xff").fault == SourceFault("it is not UTF-8")
    until(lambda: b.launcher.living() == 0)
