from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from lowcode_faas_promtail_json import JsonSink, lowcode_faas_log_sink
from lowcode_faas_promtail_json.sink import EventFormatter

from lowcode_faas_core.catalogue import Catalogue
from lowcode_faas_core.interfaces.log_sink import Undelivered, event_json
from lowcode_faas_core.testing.log_sink_contract import ODD_MESSAGES, LogSinkContract
from lowcode_faas_core.testing.samples import sample_event

FIELDS = (
    "ts level message log_stream run_id execution_id function_name collection_path "
    "deployment_id deployment_version seq traceparent late truncated"
).split()


class TestJson(LogSinkContract):
    @pytest.fixture
    def written(self, tmp_path):
        return tmp_path / "lines"

    @pytest.fixture
    def sink(self, written):
        descriptor = os.open(written, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        yield JsonSink(descriptor)
        os.close(descriptor)

    @pytest.fixture
    def read(self, written):
        lines = lambda: written.read_bytes().split(b"\n")[:-1]  # noqa: E731
        return lambda: [json.loads(line)["message"] for line in lines()]

    @pytest.fixture
    def broken(self):
        reader, writer = os.pipe()
        os.close(reader)
        yield JsonSink(writer)
        os.close(writer)


@pytest.mark.fault(80, 81)
@pytest.mark.parametrize(
    "message",
    [
        *ODD_MESSAGES,
        '{"run_id":"victim","function_name":"other","level":"error"}',
        '","run_id":"victim',
        "\\",
        "\x85\u2028\u2029",
        "%s %(asctime)s",
    ],
)
def test_a_message_is_exact_and_can_set_no_other_field(message: str) -> None:
    event = sample_event(1, message)
    line = EventFormatter().line(event)
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert list(found) == FIELDS
    assert found["message"] == message
    assert found["run_id"] == event.run_id
    assert line.count(f'"run_id":"{event.run_id}"') == 1
    assert '"run_id":"victim"' not in line


@pytest.mark.parametrize("message", [*ODD_MESSAGES, '\x00\x1f\x7f\x85é\U0001f600\\"/'])
def test_the_line_is_the_one_of_every_json_sink(message: str) -> None:
    event = sample_event(1, message, collection_path="org/team", late=True)
    assert EventFormatter().line(event) == event_json(event)


@pytest.mark.fault(88)
def test_a_formatter_that_raises_loses_what_it_could_not_write(tmp_path) -> None:
    descriptor = os.open(tmp_path / "lines", os.O_CREAT | os.O_WRONLY)
    sink = JsonSink(descriptor)
    whole = sink._formatter.line

    def line(event):
        if event.message == "bad":
            raise ValueError(event.message)
        return whole(event)

    sink._formatter.line = line  # type: ignore[method-assign]
    with pytest.raises(Undelivered) as raised:
        sink.emit([sample_event(1, "good"), sample_event(2, "bad"), sample_event(3, "after")])
    os.close(descriptor)
    assert raised.value.count == 2
    assert (tmp_path / "lines").read_text().count("\n") == 1


def test_three_names_are_one_plugin() -> None:
    catalogue = Catalogue.installed()
    found = {catalogue.find("X", n).identity for n in ("docker_json", "promtail", "promtail-json")}
    assert len(found) == 1
    sink = lowcode_faas_log_sink({})
    assert sink.flush(0) == 0
    sink.close()
    sink.close()


WRITER = """
import sys
from lowcode_faas_promtail_json import JsonSink
from lowcode_faas_core.testing.samples import sample_event
name, sink = sys.argv[1], JsonSink()
for n in range(1, 41):
    sink.emit([sample_event(2 * n - 1, name * 200_000), sample_event(2 * n, name)])
"""


def test_two_processes_on_one_pipe_tear_no_line_of_200_kb() -> None:
    # Given two processes whose standard output is one pipe
    reader, writer = os.pipe()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name], stdout=writer) for name in "ab"
    ]
    os.close(writer)
    # When each prints forty lines of 200 KB and forty short ones
    with os.fdopen(reader, "rb") as pipe:
        events = [json.loads(line) for line in pipe]
    assert [process.wait(30) for process in writers] == [0, 0]
    # Then every line is whole, and those of one process are in order
    for name in "ab":
        own = [event for event in events if event["message"][0] == name]
        assert [event["seq"] for event in own] == list(range(1, 81))
        assert {event["message"] for event in own} == {name, name * 200_000}
    assert len(events) == 160
