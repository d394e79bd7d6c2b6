"""What one service removes of another's: only where the engine would know that the other lives."""

from __future__ import annotations

import dataclasses
import time

import pytest
from lowcode_faas_docker_runner.engine import Unreachable
from lowcode_faas_docker_runner.ownership import identify
from lowcode_faas_docker_runner.reaper import Reaper

C1, C2 = "c1" * 32, "c2" * 32
SANDBOX = "5a" * 32


def service(container):
    """Who a process in a container of its own is; all of them share machine and data folder."""
    own = identify("shared", {})
    return dataclasses.replace(own, namespace=container[:4], host=container[:12], pid=7)


class EngineOf:
    """Has the sandbox of the service in ``C1``, and such containers of services as it is given."""

    def __init__(self, services):
        #: State by id; a name may stand for an id, as in the engine.
        self.services = services
        self.sandboxes = {SANDBOX: service(C1).labels}
        self.looks = []
        self.away = False

    def containers(self, _labels):
        return [
            {"Id": each, "Labels": labels, "Created": time.time() - 3600}
            for each, labels in self.sandboxes.items()
        ]

    def inspect(self, container):
        self.looks.append(container)
        if self.away:
            raise Unreachable("no answer")
        for name, (identifier, running) in self.services.items():
            if container == name or identifier.startswith(container):
                return {"Id": identifier, "State": {"Running": running}}
        return None

    def remove(self, container):
        return self.sandboxes.pop(container, None) is not None


def running(*containers):
    return {each: (each, True) for each in containers}


def reaper(engine, container=C2):
    return Reaper(engine, service(container), lambda _: False)


@pytest.mark.fault(105)
def test_an_engine_that_runs_no_service_says_nothing_about_owners():
    engine = EngineOf({})
    two = reaper(engine)
    assert [two.reap() for _ in range(3)] == [0, 0, 0]
    assert SANDBOX in engine.sandboxes
    # Which engine it is does not change: one look is enough.
    assert engine.looks == [C2[:12]]


@pytest.mark.fault(98)
@pytest.mark.parametrize("left", [{}, {C1: (C1, False)}])
def test_an_engine_that_runs_us_knows_who_is_gone(left):
    engine = EngineOf({**running(C2), **left})
    assert reaper(engine).reap() == 1
    assert engine.sandboxes == {}


@pytest.mark.fault(105)
def test_an_engine_that_runs_us_knows_who_lives():
    engine = EngineOf(running(C1, C2))
    two = reaper(engine)
    assert [two.reap(), two.reap()] == [0, 0]
    assert engine.looks.count(C2[:12]) == 1
    # And once it has ended, what it had goes.
    del engine.services[C1]
    assert two.reap() == 1


@pytest.mark.fault(90)
def test_what_could_not_be_asked_is_asked_again():
    engine = EngineOf(running(C2))
    engine.away = True
    two = reaper(engine)
    assert two.reap() == 0
    engine.away = False
    assert two.reap() == 1


def test_a_container_that_is_still_being_started_is_asked_for_again():
    engine = EngineOf({C2: (C2, False)})
    two = reaper(engine)
    assert two.reap() == 0
    engine.services.update(running(C2))
    assert two.reap() == 1


@pytest.mark.fault(105)
def test_a_container_of_our_name_is_not_the_one_we_are_in():
    engine = EngineOf({C2[:12]: ("ab" * 32, True)})
    assert reaper(engine).reap() == 0


@pytest.mark.fault(105)
def test_a_process_that_is_in_no_container_it_can_name_removes_no_containers_things():
    engine = EngineOf({"a-host": ("ab" * 32, True)})
    own = dataclasses.replace(service(C2), host="a-host")
    assert Reaper(engine, own, lambda _: False).reap() == 0
    assert engine.looks == []
