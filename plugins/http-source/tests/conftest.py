"""Servers of the tests' own on loopback: what they answer is a function of the test."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lowcode_faas_http_source import HttpSourceFetcher, HttpSourceSettings

from lowcode_faas_core.interfaces.source import FetchLimits
from lowcode_faas_core.settings import read

MODULE = b"export const handler = () => ({ok: true});\n"
#: Writes whatever it likes to the connection; gets the request's head.
Script = Callable[[socket.socket, str], None]


def answer(status: int = 200, body: bytes = MODULE, **headers: str) -> bytes:
    """Return a whole answer; header names are written with underscores."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def says(status: int = 200, body: bytes = MODULE, **headers: str) -> Script:
    return lambda peer, head: peer.sendall(answer(status, body, **headers))


@dataclass
class Server:
    """Speaks by script, each connection in a thread of its own, and remembers what it was asked."""

    tls: Any = None
    script: Script = field(default_factory=says)
    heads: list[str] = field(default_factory=list)
    #: Connections that came, and those whose script has ended.
    came: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept)
        self.thread.start()

    @property
    def url(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}/greet.mjs"

    @property
    def where(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def _accept(self) -> None:
        speaking = []
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                break
            speaking.append(threading.Thread(target=self._speak, args=(peer,)))
            speaking[-1].start()
        for thread in speaking:
            thread.join()

    def _speak(self, peer: socket.socket) -> None:
        self.came += 1
        peer.settimeout(30)
        try:
            with peer:
                if self.tls is not None:
                    peer = self.tls.wrap_socket(peer, server_side=True)
                head = b""
                while not head.endswith(b"\r\n\r\n") and (piece := peer.recv(65536)):
                    head += piece
                self.heads.append(head.decode("latin-1"))
                self.script(peer, self.heads[-1])
                with contextlib.suppress(OSError):
                    peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # whoever asked has gone, or did not like the certificate
        finally:
            self.done += 1


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start a server with a script."""
    started: list[Server] = []

    def make(script: Script | None = None, tls: Any = None) -> Server:
        started.append(Server(tls, script or says()))
        return started[-1]

    yield make
    for server in started:
        server.close()


@pytest.fixture
def fetcher_of() -> Iterator[Callable[..., HttpSourceFetcher]]:
    """Build a fetcher that may ask these servers, plainly; more variables by keyword."""
    made: list[HttpSourceFetcher] = []

    def make(*servers: Server, **variables: str) -> HttpSourceFetcher:
        environ = {
            "LOWCODE_FAAS_SOURCE_ALLOW_HTTP": "true",
            "LOWCODE_FAAS_SOURCE_ALLOW_HOSTS": ",".join(server.where for server in servers),
            **{f"LOWCODE_FAAS_SOURCE_{name}": value for name, value in variables.items()},
        }
        made.append(HttpSourceFetcher(read(environ, HttpSourceSettings)))
        return made[-1]

    yield make
    for each in made:
        each.close()
        assert not each._running, "a fetch outlives its fetcher"


@pytest.fixture
def limits() -> FetchLimits:
    return FetchLimits(max_bytes=100_000, timeout_s=5.0)


@pytest.fixture(name="answer")
def answer_fixture() -> Callable[..., bytes]:
    return answer


@pytest.fixture(name="says")
def says_fixture() -> Callable[..., Script]:
    return says


@pytest.fixture
def module() -> bytes:
    return MODULE


@dataclass
class Authority:
    """A server's context with a certificate, and the file whoever trusts it needs."""

    server: Any
    file: Path


def _make_authority(folder: Path, host: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    vouched: x509.GeneralName = x509.DNSName(host)
    with contextlib.suppress(ValueError):
        vouched = x509.IPAddress(ipaddress.ip_address(host))
    alternative = x509.SubjectAlternativeName([vouched])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "authority.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    return Authority(context, file)


@pytest.fixture(scope="session")
def make_authority() -> Callable[[Path, str], Authority]:
    """Write a certificate for a host, and its key, into a folder."""
    return _make_authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return _make_authority(tmp_path, "127.0.0.1")
