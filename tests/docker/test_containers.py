"""What the engine shows of a living sandbox, and what others may do to it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

LABELS = {"io.lowcode-faas.managed", "io.lowcode-faas.instance", "io.lowcode-faas.owner"}
WAIT = """
console.log('loaded');
export const handler = ({ ms }) => new Promise((r) => setTimeout(r, ms, { ok: true }));
"""
FLOOD = """
import fs from 'node:fs';
export function handler() {
  const line = 'x'.repeat(8000) + '\\n';
  for (;;) {
    try { fs.writeSync(1, line); fs.writeSync(2, line); } catch {}
    console.log(line);
    console.error(line);
  }
}
"""


def own(engine, instance):
    label = {"label": f"io.lowcode-faas.instance={instance}"}
    return engine.containers.list(all=True, filters=label, ignore_removed=True)


def running(service, name, poll, timeout_ms=30_000, ms=30_000):
    """Invoke from another thread; return where the answer will be, once it runs."""
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(service.invoke(name, {"ms": ms}, timeout_ms)), daemon=True
    )
    before = service.text().count("loaded")
    thread.start()
    poll("it runs", lambda: service.text().count("loaded") > before)
    return answers, thread


@pytest.mark.fault(67, 68, 76, 77)
@pytest.mark.parametrize("exchange", ["direct", "stream", "files"])
def test_inspect_shows_every_hardening_and_no_env(serve, engine, instance, poll, exchange):
    # Given a function whose env has a secret, while it runs
    service = serve(
        DOCKER_EXCHANGE="files" if exchange == "files" else "stream",
        DOCKER_DIRECT=str(exchange == "direct"),
        STOCK="0",
    )
    service.deploy("wait", WAIT, env={"SECRET": "very-secret-indeed"})
    answers, thread = running(service, "wait", poll, ms=2000)
    # When its container is inspected
    (container,) = [c for c in own(engine, instance) if c.status == "running"]
    shown = engine.api.inspect_container(container.id)
    thread.join()
    assert answers[0][1]["status"] == "succeeded", answers
    # Then nothing of the env is there, and every bound is
    assert "very-secret-indeed" not in str(shown)
    config, host = shown["Config"], shown["HostConfig"]
    assert config["User"] == "65534:65534"
    assert set(config["Labels"]) >= LABELS
    assert (host["ReadonlyRootfs"], host["Init"], host["Privileged"]) == (True, True, False)
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == host["MemorySwap"] == 256 << 20
    assert host["CpuQuota"] == host["CpuPeriod"] == 100_000
    assert host["PidsLimit"] == 65
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {
        "nofile": 512,
        "fsize": 65 << 20,
        "core": 0,
    }
    assert "size=67108864,nr_inodes=16384" in host["Tmpfs"]["/tmp"]
    assert host["NetworkMode"] == "none"
    assert host["IpcMode"] == "none"
    assert not any((host["Binds"], host["PortBindings"], config.get("ExposedPorts")))
    if exchange != "files":
        assert host["LogConfig"]["Type"] == "none"
        assert config["StdinOnce"] is False
        mounts = [(m["Type"], m["Destination"], m["RW"]) for m in shown["Mounts"]]
        assert mounts == ([("bind", "/lowcode-faas", False)] if exchange == "direct" else [])
        # What was mounted is nothing by now.
        assert not any(Path(m["Source"]).exists() for m in shown["Mounts"])
    else:
        assert host["LogConfig"]["Config"] == {"max-size": str(8 << 20), "max-file": "2"}
        assert [m["Destination"] for m in shown["Mounts"]] == ["/lowcode-faas"]


@pytest.mark.fault(94)
@pytest.mark.parametrize("exchange", ["stream", "files"])
@pytest.mark.parametrize(("act", "code"), [("kill", "killed"), ("remove", "sandbox_lost")])
def test_what_others_do_to_a_container_is_told(serve, engine, instance, poll, exchange, act, code):
    service = serve(DOCKER_EXCHANGE=exchange, STOCK="0")
    service.deploy("wait", WAIT)
    answers, thread = running(service, "wait", poll)
    (container,) = [c for c in own(engine, instance) if c.status == "running"]
    container.kill() if act == "kill" else container.remove(force=True, v=True)
    thread.join(20)
    ((status, result),) = answers
    assert status == 200, result
    assert (result["status"], result["error"]["code"]) == ("crashed", code), result
    status, result = service.invoke("wait", {"ms": 1})
    assert result["status"] == "succeeded", result


@pytest.mark.fault(42, 63)
@pytest.mark.parametrize("exchange", ["stream", "files"])
def test_a_flood_on_both_streams_is_answered_soon_after_its_deadline(
    serve, engine, instance, poll, exchange
):
    service = serve(DOCKER_EXCHANGE=exchange)
    service.deploy("flood", FLOOD)
    service.invoke("flood", timeout_ms=3000)
    # Enough for a start on a busy machine; the flood itself takes what is left of it.
    for timeout_ms in (500, 3000):
        began = time.monotonic()
        status, result = service.invoke("flood", timeout_ms=timeout_ms)
        assert time.monotonic() - began < timeout_ms / 1000 + 2.0
        if status == 200:
            assert result["status"] == "timeout", result
        else:
            assert (status, result["outcome"]) == (503, "not_executed"), result
    assert status == 200
    assert result["logs"]["truncated"] is True
    poll("all are gone", lambda: len(own(engine, instance)) <= 2)


@pytest.mark.fault(65)
@pytest.mark.parametrize("exchange", ["stream", "files"])
def test_without_a_network_nothing_is_reached(serve, exchange):
    service = serve(DOCKER_EXCHANGE=exchange)
    source = """
    import os from 'node:os';
    import net from 'node:net';
    export const handler = () => new Promise((resolve) => {
      const done = (data) => resolve({ ok: true, data: [data, Object.keys(os.networkInterfaces())] });
      net.connect(80, '1.1.1.1').on('error', (e) => done(e.code)).on('connect', () => done('open'));
    });"""
    service.deploy("reach", source)
    _, result = service.invoke("reach")
    assert result["output"] == {"ok": True, "data": ["ENETUNREACH", ["lo"]]}, result


@pytest.mark.fault(66)
def test_on_the_services_own_network_containers_do_not_reach_each_other(
    serve, engine, instance, poll
):
    service = serve(DOCKER_NETWORK="")
    service.deploy("wait", WAIT)
    assert service.invoke("wait", {"ms": 1})[1]["status"] == "succeeded"
    (network,) = engine.networks.list(names=[f"lowcode-faas-{instance}"])
    options = network.attrs["Options"]
    assert options["com.docker.network.bridge.enable_icc"] == "false"
    assert options["com.docker.network.bridge.name"].startswith("lcf-")
    assert network.attrs["Labels"]["io.lowcode-faas.instance"] == instance
    # Given one that listens
    listens = """
    import net from 'node:net'; import os from 'node:os';
    const server = net.createServer((s) => s.end('hello'));
    await new Promise((r) => server.listen(7777, '0.0.0.0', r));
    const own = Object.values(os.networkInterfaces()).flat().find((i) => !i.internal).address;
    console.log(`loaded at ${own}.`);
    export const handler = ({ ms }) => new Promise((r) => setTimeout(r, ms, { ok: true, data: own }));
    """
    service.deploy("listens", listens)
    _, thread = running(service, "listens", poll, ms=4000)
    address = service.text().rpartition("loaded at ")[2].split("\n")[0].rstrip(".")
    # When another one connects
    connects = """
    import net from 'node:net';
    export const handler = ({ address }) => new Promise((r) => {
      const end = (data) => { r({ ok: true, data }); socket.destroy(); };
      const socket = net.connect(7777, address).on('connect', () => end('open'))
        .on('error', (e) => end(e.code)).setTimeout(1500, () => end('silence'));
    });"""
    service.deploy("connects", connects)
    _, result = service.invoke("connects", {"address": address})
    # Then it cannot
    assert result["output"]["data"] != "open", result
    thread.join()
    # And after an orderly stop the network is gone, with every container
    service.stop()
    assert engine.networks.list(names=[f"lowcode-faas-{instance}"]) == []
    assert own(engine, instance) == []


@pytest.mark.fault(95)
def test_a_network_that_somebody_removes_is_made_again(serve, engine, instance, poll):
    service = serve(DOCKER_NETWORK="", STOCK="0")
    service.deploy("wait", WAIT)
    assert service.invoke("wait", {"ms": 1})[1]["status"] == "succeeded"
    for container in own(engine, instance):
        container.remove(force=True)
    (network,) = engine.networks.list(names=[f"lowcode-faas-{instance}"])
    network.remove()
    status, result = service.invoke("wait", {"ms": 1})
    assert status == 200, result
    assert result["status"] == "succeeded", result


def test_usage_is_the_containers(serve):
    service = serve()
    spin = """export function handler() {
      const begun = process.cpuUsage(); while (process.cpuUsage(begun).user < 100_000);
      return { ok: true }; }"""
    service.deploy("spin", spin)
    for _ in range(2):
        usage = service.invoke("spin")[1]["usage"]
        # Unknown with an engine on another machine.
        assert usage["cpu_ms"] is None or 50 < usage["cpu_ms"] < 2000
        assert usage["max_rss_bytes"] is None or usage["max_rss_bytes"] > 1 << 20
