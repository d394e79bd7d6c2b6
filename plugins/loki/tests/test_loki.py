from __future__ import annotations

import email.utils
import json
import threading
import time
from typing import Any

import msgspec
import pytest
from lowcode_faas_loki import LokiSettings, LokiSink, lowcode_faas_log_sink, lowcode_faas_settings
from lowcode_faas_loki.examination import LookAtLoki
from lowcode_faas_loki.sink import Patience

from lowcode_faas_core.delivery import LogRouter
from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.interfaces.log_sink import Undelivered, event_json
from lowcode_faas_core.settings import read
from lowcode_faas_core.testing.log_sink_contract import LogSinkContract
from lowcode_faas_core.testing.samples import sample_event

URL = "LOWCODE_FAAS_LOG_LOKI_URL"


def events(count: int, start: int = 1) -> list[Any]:
    return [sample_event(n, f"line {n}") for n in range(start, start + count)]


class TestLoki(LogSinkContract):
    """Runs against a real Loki too, where LOWCODE_FAAS_TEST_LOKI_URL names one."""

    @pytest.fixture
    def sink(self, target, make_sink):
        return make_sink(target.url, target.labels, Patience())

    @pytest.fixture
    def read(self, target):
        return lambda: [json.loads(line)["message"] for line in target.lines(1)]

    @pytest.fixture
    def broken(self, make_sink, dead_url):
        return make_sink(dead_url)


def test_the_line_is_the_one_of_every_json_sink_and_ids_are_metadata(checker, make_sink) -> None:
    event = sample_event(1, 'a "quoted" \u2028 line')
    LokiSink.emit(sink := make_sink(checker.url), [event_now := _now(event)])
    assert checker.lines() == [event_json(event_now)]
    assert checker.streams == {'{"job": "lowcode-faas"}'}
    assert checker.rows[0][2] == {
        "run_id": "run-1",
        "execution_id": "execution-1",
        "function_name": "greet",
        "collection_path": "org/team",
        "deployment_id": "deployment-1",
    }
    assert sink.flush(0) == 0


def test_a_trace_is_metadata_where_there_is_one(checker, make_sink) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    LokiSink.emit(make_sink(checker.url), [_now(sample_event(1, traceparent=trace))])
    assert checker.rows[0][2]["traceparent"] == trace


def _now(event: Any) -> Any:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    return msgspec.structs.replace(event, ts=f"{stamp}.123456789Z")


def test_times_are_whole_nanoseconds(checker, make_sink) -> None:
    LokiSink.emit(make_sink(checker.url), [_now(sample_event(1))])
    assert checker.rows[0][0].endswith("123456789")


def test_metadata_can_be_switched_off_and_the_root_has_no_empty_one(checker, make_sink) -> None:
    make_sink(checker.url, structured_metadata=False).emit(events(1))
    make_sink(checker.url).emit([sample_event(2, "of the root", collection_path="")])
    assert len(checker.rows[0]) == 2
    assert "collection_path" not in checker.rows[1][2]
    assert json.loads(checker.lines()[1])["collection_path"] == ""


def test_tenant_and_credentials_are_shown(checker, make_sink) -> None:
    checker.tenant, checker.credentials = "team-a", ("üser", "pässword")
    sink = make_sink(checker.url, tenant="team-a", username="üser", password="pässword")
    sink.emit(events(1))
    assert checker.statuses() == [204]


def test_a_whole_push_url_works_too(checker, make_sink) -> None:
    make_sink(f"{checker.url}/loki/api/v1/push").emit(events(1))
    assert checker.statuses() == [204]


@pytest.mark.fault(86)
@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(checker, make_sink, scripted, status) -> None:
    checker.script = [scripted(status), scripted(status)]
    make_sink(checker.url).emit(events(3))
    assert checker.statuses() == [status, status, 204]
    assert checker.messages() == ["line 1", "line 2", "line 3"]


@pytest.mark.fault(86)
def test_retry_after_is_honoured(checker, make_sink, scripted) -> None:
    soon = email.utils.formatdate(time.time() + 1.5, usegmt=True)
    for header in ("1", soon, "no time at all"):
        checker.script, checker.answers = [scripted(429, {"Retry-After": header})], []
        make_sink(checker.url).emit(events(1))
        (first, then), (second, later) = checker.answers
        assert (first, second) == (429, 204)
        if header == "1":
            assert later - then >= 0.95


@pytest.mark.fault(86)
@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404])
def test_what_would_not_help_is_not_tried_again(checker, make_sink, scripted, status) -> None:
    checker.always = scripted(status, {"Location": f"{checker.url}/loki/api/v1/push"}, "words")
    with pytest.raises(Undelivered, match=f"answered {status} words") as raised:
        make_sink(checker.url).emit(events(3))
    assert raised.value.count == 3
    assert checker.statuses() == [status]


@pytest.mark.fault(86)
def test_one_bad_line_costs_one_line(checker, make_sink) -> None:
    # Given a line of last month among a hundred
    batch = [_now(event) for event in events(100)]
    batch[41] = sample_event(42, "old")
    # When they are pushed
    with pytest.raises(Undelivered, match="too old") as raised:
        LokiSink.emit(make_sink(checker.url), batch)
    # Then the others arrive, in order, within a few requests
    assert raised.value.count == 1
    assert checker.messages() == [f"line {n}" for n in range(1, 101) if n != 42]
    assert len(checker.answers) < 20


@pytest.mark.fault(86)
def test_a_loki_that_refuses_everything_is_not_asked_for_every_line(checker, make_sink) -> None:
    with pytest.raises(Undelivered) as raised:
        LokiSink.emit(make_sink(checker.url), events(1000))  # all of them too old
    assert raised.value.count == 1000
    assert len(checker.answers) < 200


@pytest.mark.fault(86)
def test_a_loki_that_is_down_is_tried_a_few_times(make_sink, dead_url) -> None:
    with pytest.raises(Undelivered, match="cannot be reached") as raised:
        make_sink(dead_url).emit(events(5))
    assert raised.value.count == 5


@pytest.mark.fault(86)
def test_an_answer_that_does_not_come_is_not_asked_for_twice(make_sink, black_hole) -> None:
    begun = time.monotonic()
    with pytest.raises(Undelivered, match="did not answer") as raised:
        make_sink(black_hole).emit(events(5))
    assert raised.value.count == 5
    assert time.monotonic() - begun < 5


@pytest.mark.fault(86)
def test_a_slow_answer_is_waited_for(checker, make_sink, scripted) -> None:
    checker.script = [scripted(204, delay_s=0.2)]
    make_sink(checker.url).emit(events(1))
    assert checker.statuses() == [204]


@pytest.mark.fault(86)
def test_an_outage_drops_the_oldest_and_counts_them(
    serve, new_checker, make_sink, dead_url
) -> None:
    # Given a Loki that is down while more is printed than may wait
    router = LogRouter({"loki": make_sink(dead_url)})
    for event in events(30_000):
        router.emit(event)
    # When it comes up
    with serve(new_checker(), int(dead_url.rpartition(":")[2])) as checker:
        deadline = time.monotonic() + 20
        while "line 30000" not in checker.messages() and time.monotonic() < deadline:
            time.sleep(0.1)
        router.close()
        got = [int(message.removeprefix("line ")) for message in checker.messages()]
    # Then nothing is unaccounted for, and the newest are there in order
    counts = router.counts()["loki"]
    assert counts["delivered"] + counts["dropped"] == 30_000
    assert counts["delivered"] == len(got)
    assert counts["reasons"]["queue_full"] > 0
    assert got == sorted(got)
    assert got[-1] == 30_000


@pytest.mark.fault(86)
def test_a_stop_does_not_wait_for_a_loki_that_does_not_answer(make_sink, black_hole) -> None:
    router = LogRouter({"loki": make_sink(black_hole, patience=Patience())})
    for event in events(5000):
        router.emit(event)
    begun = time.monotonic()
    router.close()
    assert time.monotonic() - begun < 6
    assert router.counts()["loki"]["dropped"] == 5000


def test_a_stop_interrupts_the_wait_between_attempts(checker, make_sink, scripted) -> None:
    checker.script = [scripted(429, {"Retry-After": "50"})]
    sink = make_sink(checker.url, patience=Patience())
    thread = threading.Thread(target=sink.emit, args=(events(1),))
    thread.start()
    deadline = time.monotonic() + 5
    while not checker.answers and time.monotonic() < deadline:
        time.sleep(0.01)
    sink.closing(time.monotonic_ns() + 2_000_000_000)
    thread.join(5)
    assert not thread.is_alive()
    assert checker.statuses() == [429, 204]


@pytest.mark.fault(87)
@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", "\x00", '"', "\\"])
def test_a_line_of_a_megabyte_is_cut_and_says_so(checker, make_sink, character) -> None:
    message = character * (1_000_000 // len(character.encode()))
    make_sink(checker.url).emit([sample_event(1, message), sample_event(2, "next")])
    first, second = map(json.loads, checker.lines())
    assert first["truncated"] is True
    assert message.startswith(first["message"])
    assert 200_000 < len(checker.lines()[0].encode()) < 256 << 10
    assert second["message"] == "next"


@pytest.mark.fault(87)
def test_ten_thousand_functions_are_one_stream(checker, make_sink) -> None:
    sink = make_sink(checker.url)
    for start in range(0, 10_000, 1000):
        sink.emit(
            [
                sample_event(n, "x", function_name=f"f{n}", run_id=f"r{n}")
                for n in range(start, start + 1000)
            ]
        )
    assert len(checker.streams) == 1
    assert len(checker.rows) == 10_000


def test_a_batch_larger_than_a_request_is_cut(checker, make_sink) -> None:
    make_sink(checker.url).emit([sample_event(n, "x" * 100_000) for n in range(1, 31)])
    assert len(checker.answers) == 3
    assert [json.loads(line)["seq"] for line in checker.lines()] == list(range(1, 31))


def test_low_traffic_is_gathered_into_few_pushes(checker, make_sink) -> None:
    router = LogRouter({"loki": make_sink(checker.url)})
    for event in events(50):
        router.emit(event)
        time.sleep(0.002)
    router.close()
    assert len(checker.lines()) == 50
    assert len(checker.answers) <= 3


def test_the_factory_reads_the_environment() -> None:
    with pytest.raises(ConfigurationError, match=f"{URL} must be set"):
        lowcode_faas_log_sink({})
    sink = lowcode_faas_log_sink({URL: "http://loki:3100/", "LOWCODE_FAAS_LOG_LOKI_LABELS": "a=b"})
    sink.close()
    sink.close()
    assert list(lowcode_faas_settings()) == [LokiSettings]
    assert read({URL: "http://loki:3100/"}, LokiSettings).url == "http://loki:3100/loki/api/v1/push"


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"URL": "loki:3100"}, "must be an http or https URL"),
        ({"URL": "http://u:p@loki:3100"}, "must not hold a user"),
        ({"URL": "http://loki:3100/?x=1"}, "must be an http or https URL"),
        ({"TENANT": "a\nb"}, "must be printable"),
        ({"PASSWORD": "secret"}, "is set without"),
    ],
)
def test_what_cannot_work_stops_the_start(variables: dict[str, str], complaint: str) -> None:
    environ = {f"LOWCODE_FAAS_LOG_LOKI_{name}": value for name, value in variables.items()}
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        read(environ, LokiSettings)
    assert "secret" not in str(raised.value)


def test_the_doctor_learns_whether_pushes_would_be_taken(
    checker: Any, dead_url: str, scripted: Any
) -> None:
    def findings(**variables: str) -> list[tuple[str, str]]:
        environ = {f"LOWCODE_FAAS_LOG_LOKI_{k}": v for k, v in variables.items()}
        looked = LookAtLoki(read(environ, LokiSettings)).findings()
        return [(each.level.value, each.text) for each in looked]

    # Given Loki, with a tenant of its own
    checker.tenant = "ours"
    assert [level for level, _ in findings(URL=checker.url, TENANT="ours")] == ["ok", "ok"]
    # Then nothing was stored, and whoever is not let in, or speaks to another address, is told
    assert checker.lines() == []
    assert ("failure", f"{checker.url[7:]} refuses our tenant, user or password (401)") in findings(
        URL=checker.url, TENANT="other"
    )
    checker.script.append(scripted(404))
    assert "is that Loki's address?" in findings(URL=checker.url, TENANT="ours")[0][1]
    assert findings(URL=dead_url)[0][0] == "failure"
