"""What the files exchange copies out of a container, whatever code has put there."""

from __future__ import annotations

import io
import tarfile
import threading

import pytest
from lowcode_faas_docker_runner import workspace
from lowcode_faas_docker_runner.arguments import container as arguments
from lowcode_faas_docker_runner.workspace import BadOutput, OutputTooLarge, copy_out

LIMIT = 1 << 20


@pytest.fixture
def filled(launchers, limits):
    """Make a container whose workspace holds what the test wants; it never starts."""
    host = launchers().host
    made = []

    def make(*members):
        config = arguments(
            host.settings,
            limits,
            ["-e", "0"],
            labels=host.identity.labels,
            network="none",
            kept_log_bytes=1 << 20,
        )
        container = host.engine.create(config, f"workspace-{host.identity.instance}-{len(made)}")
        made.append(container)
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            folder = tarfile.TarInfo("run")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(folder)
            for info, data in members:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with host.engine.calling("fill", 30) as client:
            client.put_archive(container, "/lowcode-faas", archive.getvalue())
        return lambda: copy_out(host.engine, container, LIMIT)

    yield make
    for container in made:
        host.engine.remove(container)


def member(kind, name="run/output.json", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def file(data):
    return tarfile.TarInfo("run/output.json"), data


def test_an_answer_is_read(filled):
    answer = filled(file(b'{"kind":"d","payload":{"ok":true}}'))()
    assert (answer.kind, bytes(answer.payload)) == ("d", b'{"ok":true}')


def test_nothing_left_is_nothing(filled):
    assert filled()() is None
    assert filled(file(b""))() is None


@pytest.mark.fault(50, 51)
@pytest.mark.parametrize(
    "members",
    [
        [member(tarfile.SYMTYPE, link="/etc/passwd")],
        [member(tarfile.SYMTYPE, link="/proc/1/environ")],
        [member(tarfile.SYMTYPE, link="nowhere")],
        [member(tarfile.DIRTYPE)],
        [member(tarfile.DIRTYPE), member(tarfile.REGTYPE, "run/output.json/one")],
        [member(tarfile.FIFOTYPE)],
        [member(tarfile.CHRTYPE)],
    ],
    ids=["file", "proc", "dangling", "folder", "tree", "pipe", "device"],
)
def test_what_is_no_regular_file_is_not_read(filled, members):
    with pytest.raises(BadOutput, match="not a regular file"):
        filled(*members)()


@pytest.mark.fault(50)
def test_a_link_in_place_of_the_folder_leads_nowhere_outside(filled):
    # A link to the container's own /etc holds no output.json; the host's is never looked at.
    assert filled(member(tarfile.SYMTYPE, "run", "/etc"))() is None


@pytest.mark.fault(49, 51)
def test_a_sparse_file_of_a_terabyte_is_refused_unread(engine, launchers, limits, monkeypatch):
    def chunks():
        raise AssertionError("it was read")
        yield b""

    stat = {"size": 1 << 40, "mode": 0o600, "linkTarget": ""}
    with pytest.raises(OutputTooLarge):
        workspace._check(stat, LIMIT)
    with pytest.raises(BadOutput, match="larger than its size says"):
        workspace._capped(iter([b"x" * (1 << 20)] * 10), 100)


@pytest.mark.fault(51)
@pytest.mark.parametrize(
    ("names", "size"), [(["a", "b"], 2), ([], 0), (["a"], 5)], ids=["two", "none", "size"]
)
def test_a_tar_that_is_not_one_file_is_refused(names, size):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(BadOutput):
        workspace._only_member(archive.getvalue(), size)
    with pytest.raises(BadOutput):
        workspace._only_member(archive.getvalue()[:300], size)


@pytest.mark.fault(49, 51)
@pytest.mark.parametrize("data", [b"{", b"[]", b'"x"', b"\xff", b'{"kind":1}', b"[" * 100_000])
def test_what_is_no_answer_is_refused(filled, data):
    with pytest.raises(BadOutput, match="not what the bootstrap writes"):
        filled(file(data))()


@pytest.mark.fault(49)
def test_more_than_an_output_may_be_is_refused(filled):
    with pytest.raises(OutputTooLarge):
        filled(file(b'{"kind":"d","payload":"' + b"x" * (2 << 20) + b'"}'))()
    with pytest.raises(OutputTooLarge):
        filled(file(b'{"kind":"d","payload":"' + b"x" * LIMIT + b'"}'))()


FORGE = """
import fs from 'node:fs';
const folder = process.argv[1].replace(/[^/]*$/, '');
export function handler({ how }) {
  const answer = '{"execution_id":"x","status":"succeeded","deployment_version":99,"ok":true}';
  fs.writeFileSync(folder + 'output.json', `{"kind":"d","payload":${answer}}`);
  if (how === 'exit') process.exit(1);
  if (how === 'quiet') process.reallyExit(0);
  const done = [];
  const tries = {
    link: () => fs.symlinkSync('/etc/passwd', folder + 'link'),
    replace: () => fs.renameSync(folder + 'input.json', folder + 'output.json'),
    remove: () => fs.unlinkSync(folder + 'output.json'),
    more: () => fs.writeFileSync(folder + 'more', 'x'),
    outside: () => fs.writeFileSync('/lowcode-faas/more', 'x'),
    source: () => fs.appendFileSync(process.argv[1], '//'),
    bootstrap: () => fs.appendFileSync(folder + 'bootstrap.mjs', '//'),
    input: () => {
      if (fs.statSync(folder + 'input.json').size === 0) done.push('input is empty');
      throw 0;
    },
  };
  for (const [name, attempt] of Object.entries(tries)) try { attempt(); done.push(name); } catch {}
  return { ok: true, data: done };
}
"""


@pytest.mark.fault(52, 60, 61)
def test_a_forged_answer_is_an_output_at_most(serve):
    service = serve(DOCKER_EXCHANGE="files")
    service.deploy("forge", FORGE)
    # Not even that when the process did not exit with 0
    _, result = service.invoke("forge", {"how": "exit"})
    assert (result["status"], result["error"]["code"]) == ("crashed", "exited"), result
    assert result["deployment_version"] == 1
    # With 0 it is what the handler might as well have returned
    _, result = service.invoke("forge", {"how": "quiet"})
    assert result["status"] == "succeeded"
    assert result["deployment_version"] == 1
    assert result["output"]["deployment_version"] == 99
    # And its folder takes nothing new: the disk behind it has no other bound
    _, result = service.invoke("forge")
    assert result["output"] == {"ok": True, "data": ["input is empty"]}, result


def test_places_are_kept_under_the_cap(serve, poll):
    service = serve(DOCKER_EXCHANGE="files", MAX_INSTANCES="2", QUEUE="1", QUEUE_TIMEOUT_MS="20000")
    nap = "export const handler = ({ ms }) => new Promise((r) => setTimeout(r, ms, { ok: true }));"
    service.deploy("nap", nap)
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(service.invoke("nap", {"ms": 1500})))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(status for status, _ in answers) == [200, 200, 200, 429, 429]

    def all_given_back():
        sandboxes = service.call("GET", "/readyz")[1]["sandboxes"]
        return (sandboxes["leased"], sandboxes["ending"], sandboxes["waiting"]) == (0, 0, 0)

    poll("every place is given back", all_given_back)
