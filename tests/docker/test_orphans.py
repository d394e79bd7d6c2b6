"""What a killed service leaves at the engine is removed; what is not its own is never touched."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading

import pytest
import urllib3
from lowcode_faas_docker_runner.ownership import Life, identify
from lowcode_faas_docker_runner.reaper import Reaper

NAP = """
console.log('loaded');
export const handler = ({ ms }) => new Promise((r) => setTimeout(r, ms, { ok: true }));
"""


def of(engine, instance):
    label = {"label": f"io.lowcode-faas.instance={instance}"}
    return engine.containers.list(all=True, filters=label, ignore_removed=True)


def call_in_vain(service):
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        service.invoke("nap", {"ms": 60_000}, 90_000)


@pytest.mark.fault(98, 100, 105)
@pytest.mark.parametrize("exchange", ["stream", "files"])
def test_a_killed_service_leaves_nothing_after_its_restart(
    serve, engine, instance, image_of, poll, exchange
):
    # Given containers that only look like ours: the same name and a foreign instance
    foreign = f"{instance}-foreign"
    alike = [
        engine.containers.create(image_of(), ["node"], name=name, labels=labels)
        for name, labels in (
            (f"lowcode-faas-{instance}-1-1", {}),
            (f"lowcode-faas-{instance}-1-2", {"io.lowcode-faas.managed": "true"}),
            (
                f"lowcode-faas-{instance}-1-3",
                {
                    "io.lowcode-faas.managed": "true",
                    "io.lowcode-faas.instance": foreign,
                    "io.lowcode-faas.owner": "another-boot:1:1",
                },
            ),
        )
    ]
    try:
        # And a service that is killed in the middle of a run
        first = serve(DOCKER_EXCHANGE=exchange)
        volumes = {volume.id for volume in engine.volumes.list()}
        first.deploy("nap", NAP)
        threading.Thread(target=call_in_vain, args=(first,), daemon=True).start()
        poll("it runs", lambda: "loaded" in first.text())
        os.killpg(first.process.pid, signal.SIGKILL)
        first.process.wait()
        left = {container.id for container in of(engine, instance)}
        assert left
        # When it is started again
        second = serve(DOCKER_EXCHANGE=exchange)
        # Then within half a minute nothing of the dead one is left, and what is alike lives
        poll("they are gone", lambda: not left & {c.id for c in of(engine, instance)}, 30)
        second.stop()
        assert of(engine, instance) == []
        assert {volume.id for volume in engine.volumes.list()} <= volumes
        for container in alike:
            container.reload()
    finally:
        for container in alike:
            container.remove(force=True)


@pytest.mark.fault(105)
def test_two_services_on_one_engine_leave_each_other_alone(
    launchers, engine, instance, limits, deadline
):
    one, two = launchers(), launchers(instance=f"{instance}-b")
    same = launchers()
    sandboxes = [launcher.start(limits, deadline()) for launcher in (one, two, same)]
    assert [launcher.adopt_orphans() for launcher in (one, two, same)] == [0, 0, 0]
    assert all(sandbox.ended(0) is None for sandbox in sandboxes)
    for sandbox in sandboxes:
        sandbox.kill()
        assert sandbox.ended(20)


def test_what_is_ownerless_is_removed_in_every_state(
    launchers, engine, instance, image_of, limits, deadline
):
    launcher = launchers()
    labels = launcher.host.identity.labels
    labels["io.lowcode-faas.owner"] = f"{launcher.host.identity.boot}:{2**22 - 1}:1"
    make = {"labels": labels, "entrypoint": ["node"], "volumes": ["/lowcode-faas"]}
    volumes = {volume.id for volume in engine.volumes.list()}
    engine.containers.create(image_of(), ["-e", "0"], **make)
    engine.containers.run(image_of(), ["-e", "0"], **make, network_mode="none")
    engine.containers.run(image_of(), ["-e", "for(;;);"], **make, network_mode="none", detach=True)
    # Before the first start, which begins to look by itself.
    assert launcher.adopt_orphans() == 3
    living = launcher.start(limits, deadline())
    assert launcher.adopt_orphans() == 0
    assert [container.id for container in of(engine, instance)] == [living.container]
    assert {volume.id for volume in engine.volumes.list()} <= volumes


@pytest.mark.fault(98, 105)
def test_a_service_the_engine_never_ran_is_gone_only_where_the_engine_runs_ours(
    launchers, engine, instance, image_of
):
    # Given a sandbox of a service in a container that this engine does not know
    service = engine.containers.run(
        image_of(),
        ["-e", "setInterval(() => 0, 1000)"],
        entrypoint=["node"],
        network_mode="none",
        detach=True,
    )
    try:
        host = launchers().host
        ours = dataclasses.replace(host.identity, namespace="2", host=service.id[:12])
        theirs = dataclasses.replace(ours, namespace="1", host="c1" * 6)
        engine.containers.create(image_of(), ["-e", "0"], labels=theirs.labels)
        # Then one in front of an engine that does not run it either leaves it alone
        outside = dataclasses.replace(ours, host="c2" * 6)
        assert Reaper(host.engine, outside, lambda _: False).reap() == 0
        assert len(of(engine, instance)) == 1
        # And one that the engine runs knows that its owner is gone
        assert Reaper(host.engine, ours, lambda _: False).reap() == 1
        assert of(engine, instance) == []
    finally:
        service.remove(force=True)


class TestWhoLives:
    @pytest.fixture
    def own(self):
        return identify("me", {})

    def test_this_process_does(self, own):
        assert own.is_own(own.labels)
        assert own.judge(own.labels) == (Life.LIVES, "")

    @pytest.mark.parametrize(
        ("owner", "life"),
        [
            ("other-boot:{pid}:{started}", Life.GONE),
            ("{boot}:4194303:1", Life.GONE),
            ("{boot}:{pid}:1", Life.GONE),
            ("{boot}:{pid}:{started}", Life.LIVES),
            ("", Life.LIVES),
            ("{boot}", Life.LIVES),
            ("{boot}:x:1", Life.LIVES),
        ],
    )
    def test_an_owner_is_judged_by_boot_pid_and_start(self, own, owner, life):
        text = owner.format(boot=own.boot, pid=own.pid, started=own.started)
        assert own.judge({**own.labels, "io.lowcode-faas.owner": text})[0] is life

    def test_a_pid_of_another_namespace_says_nothing(self, own):
        owner = f"{own.boot}:4194303:1"
        labels = {"io.lowcode-faas.owner": owner, "io.lowcode-faas.place": "1:0123456789ab"}
        assert own.judge(labels) == (Life.ELSEWHERE, "0123456789ab")
        labels["io.lowcode-faas.place"] = "1:some-host"
        assert own.judge(labels) == (Life.LIVES, "")

    def test_each_data_folder_is_an_instance(self):
        one = identify("", {"LOWCODE_FAAS_DATA_DIR": "/a"}).instance
        assert one == identify("", {"LOWCODE_FAAS_DATA_DIR": "/a"}).instance
        assert one != identify("", {"LOWCODE_FAAS_DATA_DIR": "/b"}).instance
        assert identify("given", {}).instance == "given"
