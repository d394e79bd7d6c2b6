"""Where names and addresses lead, on a network where everything that must not be reached answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PUBLIC, PUBLIC6 = "93.184.216.34", "2606:4700:4700::1111"
WORLD = Path(__file__).with_name("world.py")
BLOCKED = "the URL leads to no address that may be fetched from"


class World:
    def __init__(self, folder: Path) -> None:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.process = subprocess.Popen(
            ["unshare", *user, "--net", "--mount", sys.executable, str(WORLD), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"
        self.authority = str(folder / "authority.pem")

    def fetch(self, url: str, timeout_s: float = 5, **variables: str) -> Any:
        """Fetch with http allowed; return what came of it."""
        variables = {"ALLOW_HTTP": "true", "ALLOW_PORTS": "80,443", **variables}
        asked = {"url": url, "timeout_s": timeout_s, "variables": variables}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self._read())

    def refused(self, url: str, connected: list[str] | None = None, **variables: str) -> None:
        """Assert that nothing was connected to, and that the words say nothing."""
        found = self.fetch(url, **variables)
        assert (found.get("code"), found.get("detail")) == ("source_blocked", BLOCKED)
        assert found["connected"] == (connected or [])

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(20) == 0
        self.process.stdout.close()

    def _read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the world has ended"
        return line.strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory: Any, make_authority: Any) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    make_authority(folder, "code.example")
    made = World(folder)
    yield made
    made.close()


def test_what_is_public_is_fetched(world: World) -> None:
    for url, address in (
        ("http://code.example/a.mjs", PUBLIC),
        (f"http://{PUBLIC}/a.mjs", PUBLIC),
        ("http://six.example/", PUBLIC6),
        (f"http://[{PUBLIC6}]/", PUBLIC6),
        ("http://code.example./", PUBLIC),
    ):
        found = world.fetch(url)
        assert f"data: '{address}'" in found.get("source", ""), found
        assert found["connected"] == [address]


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    "host",
    "127.0.0.1 [::1] 10.0.0.1 192.168.1.1 169.254.169.254 localhost 0.0.0.0 [::] 127.255.0.1 "
    "local.example inside.example LOCALHOST localhost.".split(),
)
def test_what_is_inside_is_not(host: str, world: World) -> None:
    world.refused(f"http://{host}/latest/meta-data/")
    world.refused(f"https://{host}/latest/meta-data/")


@pytest.mark.fault(31)
@pytest.mark.parametrize(
    "host",
    "2130706433 0x7f.1 127.1 017700000001 0177.0.0.1 0x7f000001 127.0.1 0 00000177.1 2852039166 "
    "0xa9fea9fe 169.254.43518 10.1".split(),
)
def test_in_whatever_spelling(host: str, world: World) -> None:
    world.refused(f"http://{host}/")


@pytest.mark.fault(32)
@pytest.mark.parametrize(
    "host",
    "[::ffff:169.254.169.254] [::ffff:127.0.0.1] [::ffff:7f00:1] [64:ff9b::a9fe:a9fe] "
    "[2002:a9fe:a9fe::] 100.100.100.200 192.0.0.192 [fd00:ec2::254] [fec0::1] [::7f00:1]".split(),
)
def test_nor_what_is_translated_or_shared(host: str, world: World) -> None:
    world.refused(f"http://{host}/")


@pytest.mark.fault(33)
def test_a_name_is_resolved_once_and_that_address_is_asked(world: World) -> None:
    found = world.fetch("http://rebind.example/")
    assert f"data: '{PUBLIC}'" in found.get("source", ""), found
    assert found["connected"] == [PUBLIC]
    assert found["resolved"].count("rebind.example. A") == 1
    # The next fetch asks anew, and is refused by what it hears then.
    world.refused("http://rebind.example/")
    world.refused("http://unbind.example/")
    assert world.fetch("http://unbind.example/")["connected"] == [PUBLIC]


@pytest.mark.fault(33)
@pytest.mark.parametrize("host", ["mixed.example", "turned.example"])
def test_of_mixed_answers_only_what_is_public_is_asked(host: str, world: World) -> None:
    for _ in range(4):
        found = world.fetch(f"http://{host}/")
        assert set(found["connected"]) <= {PUBLIC}
        assert found.get("code", "source_blocked") == "source_blocked"


@pytest.mark.fault(34)
@pytest.mark.parametrize(
    "location",
    "http://169.254.169.254/ http://inside.example/ http://0x7f.1/ http://[::1]/ //127.0.0.1/".split(),
)
def test_a_redirect_leads_no_further(location: str, world: World) -> None:
    world.refused(f"http://code.example/to/{location}", connected=[PUBLIC])


@pytest.mark.fault(34)
def test_a_redirect_to_what_is_public_is_followed(world: World) -> None:
    found = world.fetch("http://code.example/to/http://six.example/")
    assert found["connected"] == [PUBLIC, PUBLIC6]
    found = world.fetch("http://code.example/to//to//to//to//x")
    assert found["detail"] == "the URL redirects more than 3 times"


@pytest.mark.fault(39)
def test_no_words_tell_what_is_there(world: World) -> None:
    # One that answers, one where nothing is, a port that is closed, and a name that does not exist.
    for host in (
        "10.0.0.1",
        "10.0.0.9",
        "inside.example",
        "no-such.example",
        "a" * 64 + ".example",
    ):
        world.refused(f"http://{host}/")
    world.refused("http://127.0.0.1:81/", ALLOW_PORTS="80,81")


def test_hosts_of_the_operator_may_be_inside(world: World) -> None:
    found = world.fetch("http://inside.example/", ALLOW_HOSTS="inside.example")
    assert found["connected"] == ["10.0.0.1"]
    world.refused("http://10.0.0.1/", ALLOW_HOSTS="inside.example")
    world.refused("http://local.example/", ALLOW_HOSTS="inside.example")
    world.refused("http://inside.example/", ALLOW_HOSTS="inside.example:443")


def test_certificates_are_held_to_the_name_although_an_address_is_asked(world: World) -> None:
    found = world.fetch("https://code.example/", CA_FILE=world.authority)
    assert found["connected"] == [PUBLIC]
    assert "source" in found, found
    for url in (f"https://{PUBLIC}/", "https://six.example/"):
        assert world.fetch(url, CA_FILE=world.authority)["code"] == "source_unavailable"


@pytest.mark.fault(36)
def test_a_silent_resolver_is_given_up_at_the_deadline(world: World) -> None:
    found = world.fetch("http://silent.example/", timeout_s=0.3)
    assert found["code"] == "source_unavailable"
    assert found["took_s"] < 0.9
