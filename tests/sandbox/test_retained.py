"""What an instance remembers of its past runs, for lines that come late, is not what went through them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import msgspec
import pytest

from lowcode_faas_core.admission import Admission
from lowcode_faas_core.configuration import ExecutionSettings, LimitSettings
from lowcode_faas_core.invoker import LocalInvoker
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.logs import LogRouter
from lowcode_faas_core.model import Draft, FunctionRef, InvokeRequest, Language, Reuse, Status
from lowcode_faas_core.recording import Recorder
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.testing.memory_executions import MemoryExecutionStore
from lowcode_faas_core.testing.memory_storage import MemoryStorage
from lowcode_faas_core.testing.stub_launcher import StubLauncher

REF = FunctionRef("", "greet")
INPUT = msgspec.Raw(b'{"given": "' + b"x" * 1_000_000 + b'"}')
LINE = "y" * 100_000


def speak(talk, _context, _value):
    for _ in range(5):
        talk.log(LINE)
    return {"ok": True}


@pytest.fixture(params=["recorded", "not recorded"])
def invoker(request, caps) -> Iterator[LocalInvoker]:
    storage = MemoryStorage(keep_versions=1)
    storage.deploy(REF, Draft(source=b"", language=Language.JAVASCRIPT, reuse=Reuse.WARM))
    limits = OperatorLimits(LimitSettings(log_line_bytes=len(LINE)))
    logs = LogRouter({})
    store = MemoryExecutionStore()
    store.record = lambda *_: None  # type: ignore[method-assign]  # it would keep the lines
    recorder = Recorder(store, ExecutionSettings()) if request.param == "recorded" else None
    made = LocalInvoker(
        storage,
        PooledRunner(StubLauncher(speak), caps(), limits),
        limits,
        Admission(4),
        logs,
        recorder=recorder,
    )
    yield made
    made.close()
    if recorder is not None:
        recorder.close()


def test_neither_inputs_nor_lines_are_kept_with_it(invoker, until):
    def run(times: int) -> int:
        for _ in range(times):
            # Bytes of its own, as they come from a client
            given = msgspec.Raw(bytes(bytearray(INPUT)))
            result = invoker.invoke(InvokeRequest(ref=REF, request_id="r", input=given))
            assert result.status is Status.SUCCEEDED
            assert result.logs.lines == 5
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = run(3)
        until(lambda: run(20) - before < 5_000_000, 30)
    finally:
        tracemalloc.stop()
