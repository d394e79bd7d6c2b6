"""What changes between resolving an invocation and reading its source."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from lowcode_faas_core.admission import Admission
from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.errors import (
    CapacityError,
    FaasError,
    FunctionNotFound,
    SourceCorrupt,
    VersionNotKept,
)
from lowcode_faas_core.interfaces.runner import LogCallback, Runner, SourceReader
from lowcode_faas_core.invoker import LocalInvoker
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import (
    Draft,
    Execution,
    FunctionRef,
    Invocation,
    InvokeRequest,
    Language,
    Resolution,
    Reuse,
    StartKind,
    Status,
)
from lowcode_faas_core.remote import RemoteInvoker
from lowcode_faas_core.testing.memory_metrics import MemoryMetrics
from lowcode_faas_core.testing.memory_storage import MemoryStorage

REF = FunctionRef("", "greet")
LIMITS = OperatorLimits(LimitSettings())


def draft(source: bytes, env: dict[str, str] | None = None) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM, env=env)


def request(**changes: Any) -> InvokeRequest:
    return InvokeRequest(ref=REF, request_id="r", input=msgspec.Raw(b"{}"), **changes)


class Reading(Runner):
    """Answers with the source it read; ``before`` happens just before it reads one."""

    def __init__(self, *before: Callable[[], object]) -> None:
        self.before = list(before)
        self.invocations: list[Invocation] = []

    def run(self, invocation: Invocation, source: SourceReader, on_log: LogCallback) -> Execution:
        self.invocations.append(invocation)
        if self.before:
            self.before.pop(0)()
        output = {"ok": True, "data": [source().decode(), invocation.env]}
        raw = msgspec.Raw(msgspec.json.encode(output))
        return Execution(status=Status.SUCCEEDED, start=StartKind.COLD, output=raw)

    def stats(self) -> Mapping[str, Any]:
        return {}

    def check(self) -> None: ...

    def close(self, *, drain_deadline_ns: int = 0) -> None: ...


@pytest.fixture
def storage() -> MemoryStorage:
    storage = MemoryStorage(keep_versions=1)
    storage.deploy(REF, draft(b"// 1", {"A": "1"}))
    return storage


def invoker(storage: MemoryStorage, runner: Runner) -> LocalInvoker:
    return LocalInvoker(storage, runner, LIMITS, Admission(4), None)


def deploy_next(storage: MemoryStorage) -> Callable[[], object]:
    return lambda: storage.deploy(REF, draft(b"// 2", {"A": "2"}))


@pytest.mark.fault(124)
@pytest.mark.parametrize("execution_id", [None, "chosen-by-the-caller"])
def test_a_source_dropped_before_it_was_read_is_resolved_again(
    storage: MemoryStorage, execution_id: str | None
) -> None:
    runner = Reading(deploy_next(storage))
    result = invoker(storage, runner).invoke(request(execution_id=execution_id, timeout_ms=5000))

    assert result.deployment_version == 2
    assert result.output is not None
    assert msgspec.json.decode(result.output)["data"] == ["// 2", {"A": "2"}]
    first, second = runner.invocations
    assert result.execution_id == first.execution_id == second.execution_id
    assert result.run_id == first.run_id
    assert first.deadline_ns == second.deadline_ns, "one deadline covers both tries"


def delete_and_create(storage: MemoryStorage) -> None:
    storage.delete_function(REF)
    storage.deploy(REF, draft(b"// 1", {"A": "1"}))


@pytest.mark.fault(124)
def test_a_function_made_anew_meanwhile_runs(storage: MemoryStorage) -> None:
    runner = Reading(lambda: delete_and_create(storage))
    assert invoker(storage, runner).invoke(request()).status is Status.SUCCEEDED


@pytest.mark.fault(124)
def test_a_function_deleted_meanwhile_is_not_found(storage: MemoryStorage) -> None:
    with pytest.raises(FunctionNotFound):
        invoker(storage, Reading(lambda: storage.delete_function(REF))).invoke(request())


def test_a_pinned_version_dropped_meanwhile_is_not_replaced(storage: MemoryStorage) -> None:
    runner = Reading(deploy_next(storage))
    with pytest.raises(VersionNotKept):
        invoker(storage, runner).invoke(request(version=1))
    assert len(runner.invocations) == 1


def test_it_is_resolved_again_once(storage: MemoryStorage) -> None:
    runner = Reading(deploy_next(storage), lambda: storage.deploy(REF, draft(b"// 3")))
    with pytest.raises(VersionNotKept):
        invoker(storage, runner).invoke(request())
    assert len(runner.invocations) == 2


def test_a_damaged_source_is_not_read_again(storage: MemoryStorage) -> None:
    storage.sources[storage.deployment(REF).deployment_id] = b"evil"
    runner = Reading()
    with pytest.raises(SourceCorrupt):
        invoker(storage, runner).invoke(request())
    assert len(runner.invocations) == 1


@pytest.mark.fault(119)
def test_a_damaged_source_is_counted_as_such(storage: MemoryStorage) -> None:
    storage.sources[storage.deployment(REF).deployment_id] = b"evil"
    metrics = MemoryMetrics()
    local = LocalInvoker(storage, Reading(), LIMITS, Admission(4), None, Meter(metrics))
    with pytest.raises(SourceCorrupt):
        local.invoke(request())
    assert metrics.events == [("began",), ("ended", str(REF), "source_corrupt", None)]


def test_one_that_is_resolved_again_counts_once(storage: MemoryStorage) -> None:
    metrics = MemoryMetrics()
    runner = Reading(deploy_next(storage))
    local = LocalInvoker(storage, runner, LIMITS, Admission(4), None, Meter(metrics))
    local.invoke(request())
    assert [event[:3] for event in metrics.events] == [
        ("began",),
        ("ended", str(REF), "succeeded"),
    ]


def test_what_names_no_function_is_not_counted(storage: MemoryStorage) -> None:
    metrics = MemoryMetrics()
    local = LocalInvoker(storage, Reading(), LIMITS, Admission(4), None, Meter(metrics))
    with pytest.raises(FunctionNotFound):
        local.invoke(msgspec.structs.replace(request(), ref=FunctionRef("", "absent")))
    assert metrics.events == []


class SlowToResolve(MemoryStorage):
    """Resolves within 30 ms."""

    def resolve(self, ref: FunctionRef, version: int | None = None) -> Resolution:
        time.sleep(0.03)
        return super().resolve(ref, version)


def test_a_storage_that_took_all_the_time_is_named() -> None:
    storage = SlowToResolve()
    storage.deploy(REF, draft(b"// 1"))
    remote = RemoteInvoker("http://127.0.0.1:1", "", storage, LIMITS, Admission(4))
    for each in (invoker(storage, Reading()), remote):
        with pytest.raises(CapacityError) as raised:
            each.invoke(request(timeout_ms=10))
        assert raised.value.phase == "resolve"
        each.close()


@contextmanager
def worker(
    storage: MemoryStorage, *before: Callable[[], object]
) -> Iterator[tuple[RemoteInvoker, list[str]]]:
    """Serve ``/v1/run`` as a worker does that finds the source of a deployment, or not."""
    asked: list[str] = []
    pending = list(before)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body["deployment_id"])
            try:
                if pending:
                    pending.pop(0)()
                row = storage.deployment_by_id(body["deployment_id"], REF)
                local = invoker(storage, Reading())
                ran = local.invoke(request(execution_id=body["execution_id"], version=row.version))
                status, answer = 200, msgspec.json.encode(ran)
            except FaasError as error:
                problem = {"code": error.code, "detail": error.detail}
                status, answer = error.status, json.dumps(problem).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    remote = RemoteInvoker(
        f"http://127.0.0.1:{server.server_port}", "", storage, LIMITS, Admission(4)
    )
    try:
        yield remote, asked
    finally:
        remote.close()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.fault(124)
def test_a_worker_that_finds_the_source_dropped_is_asked_for_the_next(
    storage: MemoryStorage,
) -> None:
    with worker(storage, deploy_next(storage)) as (remote, asked):
        result = remote.invoke(request())
    assert result.deployment_version == 2
    assert len(asked) == len(set(asked)) == 2


def refuse() -> None:
    raise VersionNotKept("version 1 of greet was not kept")


def test_a_worker_that_cannot_read_the_current_version_says_so(storage: MemoryStorage) -> None:
    with worker(storage, refuse) as (remote, asked), pytest.raises(VersionNotKept):
        remote.invoke(request())
    assert len(asked) == 1
