"""A start whose answer is lost: only what never started is called not executed."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from lowcode_faas_docker_runner import files, host
from lowcode_faas_docker_runner.ending import Ending
from lowcode_faas_docker_runner.ends import Ends
from lowcode_faas_docker_runner.engine import Unreachable
from lowcode_faas_docker_runner.files import FilesRunner
from lowcode_faas_docker_runner.settings import DockerSettings
from lowcode_faas_docker_runner.workspace import Answer

from lowcode_faas_core.configuration import LimitSettings, PoolSettings
from lowcode_faas_core.errors import UnconfirmedEnd
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Status
from lowcode_faas_core.testing.samples import sample_invocation

CREATED = {"Status": "created", "Running": False, "ExitCode": 0}
RUNNING = {"Status": "running", "Running": True, "ExitCode": 0}
DONE = {"Status": "exited", "Running": False, "ExitCode": 0}
KILLED = {"Status": "exited", "Running": False, "ExitCode": 137}
FAILED = {"Status": "exited", "Running": False, "ExitCode": 3}


class LossyEngine:
    """Has one container; ``on_start`` is what becomes of it, and the answer to that is lost."""

    def __init__(self, on_start, *, blind_looks=0, start_s=0.0, on_look=None):
        self.state = None
        self.starts = 0
        self._on_start = on_start
        #: Looks after the start that find no engine.
        self.blind_looks = blind_looks
        self._start_s = start_s
        #: What becomes of it right after a look.
        self._on_look = on_look

    def create(self, _config, _name, _limit_s):
        self.state = dict(CREATED)
        return "0123456789abcdef"

    def start(self, _container, _limit_s):
        self.starts += 1
        time.sleep(self._start_s)
        self.state = self._on_start and dict(self._on_start)
        raise Unreachable("the answer was lost")

    def inspect(self, _container, _limit_s=5.0):
        if self.starts and self.blind_looks:
            self.blind_looks -= 1
            raise Unreachable("no answer")
        found = self.state and {"Image": "sha256:1", "State": self.state}
        if self.starts and self._on_look is not None:
            self.state, self._on_look = dict(self._on_look), None
        return found

    def kill(self, _container):
        if self.state and self.state["Running"]:
            self.state = dict(KILLED)

    def remove(self, _container, _limit_s=5.0, *, force=True):
        if self.state is None or (self.state["Running"] and not force):
            return False
        self.state = None
        return True

    def containers(self, _labels):
        return []

    def image(self, _name, _limit_s=5.0):
        return {"RepoDigests": []}

    @contextlib.contextmanager
    def following(self, _container, _silence_s):
        raise Unreachable("no log")
        yield

    def last_errors(self, _container, _lines):
        return b""

    def close(self):
        pass


@pytest.fixture
def run_on(monkeypatch):
    """Run one invocation on an engine that loses the answer; what ran leaves a result."""
    monkeypatch.setattr(files, "copy_in", lambda *_: None)
    monkeypatch.setattr(files, "copy_out", lambda *_: Answer("d", b'{"ok":true}'))
    monkeypatch.setattr(files, "CONFIRM_S", 0.5)
    runners, engines = [], []

    def run(engine, timeout_ms=10_000):
        engines.append(engine)
        monkeypatch.setattr(host, "Engine", lambda _environ: engine)
        settings = DockerSettings(network="none", prewarm_image=False)
        runner = FilesRunner(
            host.DockerHost(settings, {}), PoolSettings(), OperatorLimits(LimitSettings())
        )
        runners.append(runner)
        invocation = sample_invocation(timeout_ms=timeout_ms)
        return runner.run(invocation, lambda: b"", lambda *_: None)

    yield run
    for engine in engines:
        engine.blind_looks = 0
    for runner in runners:
        runner.close()


@pytest.mark.fault(91)
def test_what_never_started_may_be_tried_again(run_on):
    engine = LossyEngine(CREATED)
    with pytest.raises(Unreachable) as caught:
        run_on(engine)
    assert caught.value.outcome == "not_executed"
    # And it cannot start any more.
    assert engine.state is None


@pytest.mark.fault(91)
@pytest.mark.parametrize(("state", "status"), [(DONE, Status.SUCCEEDED), (FAILED, Status.CRASHED)])
def test_what_ran_has_its_own_verdict(run_on, state, status):
    assert run_on(LossyEngine(state)).status is status


@pytest.mark.fault(91)
def test_what_runs_is_left_to_run(run_on):
    engine = LossyEngine(RUNNING, on_look=RUNNING)
    threading.Timer(0.3, lambda: setattr(engine, "state", dict(DONE))).start()
    assert run_on(engine).status is Status.SUCCEEDED


@pytest.mark.fault(91)
def test_what_ended_before_its_kill_has_its_own_verdict(run_on):
    assert run_on(LossyEngine(DONE, blind_looks=1)).status is Status.SUCCEEDED


@pytest.mark.fault(91)
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(lambda: LossyEngine(RUNNING, blind_looks=1), id="killed"),
        pytest.param(lambda: LossyEngine(None), id="removed by somebody"),
        pytest.param(lambda: LossyEngine(RUNNING, blind_looks=10**6), id="never seen again"),
        pytest.param(
            lambda: LossyEngine(CREATED, blind_looks=1, on_look=RUNNING), id="started after a look"
        ),
    ],
)
def test_what_may_have_run_is_never_called_not_executed(run_on, engine):
    with pytest.raises(UnconfirmedEnd) as caught:
        run_on(engine())
    assert (caught.value.outcome, caught.value.phase) == ("unknown", "start")


@pytest.mark.fault(91)
def test_what_started_and_ran_into_its_deadline_is_a_timeout(run_on):
    execution = run_on(LossyEngine(RUNNING, start_s=0.3), timeout_ms=200)
    assert execution.status is Status.TIMEOUT


@pytest.mark.parametrize(
    ("engine", "never_started"), [(LossyEngine(CREATED), True), (LossyEngine(None), False)]
)
def test_what_somebody_removed_is_not_known_to_have_never_started(engine, never_started):
    ends = Ends()
    engine.state = engine._on_start
    ending = Ending(engine, ends, "1", lambda: None, lambda: None)
    ending.kill()
    assert ending.wait(5).vanished
    assert ending.never_started is never_started
    ends.close(5)
