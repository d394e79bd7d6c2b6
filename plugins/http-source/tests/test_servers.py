"""Servers that answer wrongly, slowly, endlessly or elsewhere; each is one on loopback."""

from __future__ import annotations

import gzip
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core.errors import (
    CapacityError,
    FaasError,
    SourceBlocked,
    SourceInvalid,
    SourceUnavailable,
)
from lowcode_faas_core.interfaces.source import FetchLimits


def drip(head: bytes, piece: bytes = b"x", pause_s: float = 0.05) -> Callable[[Any, str], None]:
    """Send ``head`` at once, and then a little for ever."""

    def script(peer: socket.socket, _head: str) -> None:
        peer.sendall(head)
        while True:
            peer.sendall(piece)
            time.sleep(pause_s)

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNBOUNDED = b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(drip(UNBOUNDED), id="body"),
        pytest.param(drip(CHUNKED, b"1\r\nx\r\n"), id="chunks"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), id="headers"),
        pytest.param(drip(b"", b"H"), id="status line"),
        pytest.param(drip(b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"), id="redirect"),
        pytest.param(lambda peer, head: time.sleep(2), id="silence"),
    ],
)
def test_a_slow_server_is_given_up_at_the_deadline(
    script: Any, serve: Any, fetcher_of: Any
) -> None:
    server = serve(script)
    fetcher = fetcher_of(server)
    began = time.monotonic()
    with pytest.raises((SourceUnavailable, SourceBlocked)):
        fetcher.fetch(server.url, FetchLimits(100_000, 0.6))
    assert time.monotonic() - began < 1.6
    _until(lambda: not fetcher._running)


@pytest.mark.fault(36)
def test_a_slow_tls_handshake_is_given_up_too(serve: Any, fetcher_of: Any) -> None:
    listener = socket.create_server(("127.0.0.1", 0))  # takes connections, and says nothing
    try:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        fetcher = fetcher_of(ALLOW_HOSTS=where)
        began = time.monotonic()
        with pytest.raises(SourceUnavailable):
            fetcher.fetch(f"https://{where}/", FetchLimits(1000, 0.5))
        assert time.monotonic() - began < 1.5
    finally:
        listener.close()


@pytest.mark.fault(36)
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        pytest.param(UNBOUNDED, b"x" * 65536, id="endless"),
        pytest.param(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n", id="endless chunks"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10737418240\r\n\r\n", b"x" * 65536, id="10 GB"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"x", id="digits"
        ),
    ],
)
def test_a_huge_body_is_left_at_the_cap(
    head: bytes, piece: bytes, serve: Any, fetcher_of: Any, limits: FetchLimits
) -> None:
    sent = 0

    def script(peer: socket.socket, _head: str) -> None:
        nonlocal sent
        peer.sendall(head)
        while True:
            peer.sendall(piece)
            sent += len(piece)

    server = serve(script)
    with pytest.raises(FaasError, match=r"more than 100000 bytes|connection failed"):
        fetcher_of(server).fetch(server.url, limits)
    _until(lambda: server.done)
    assert sent < 16 << 20  # what the buffers of two sockets hold, not more


@pytest.mark.fault(36)
def test_nothing_is_unpacked(
    serve: Any, says: Any, fetcher_of: Any, module: bytes, limits: FetchLimits
) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    assert len(bomb) < limits.max_bytes
    server = serve(says(200, bomb, Content_Encoding="gzip"))
    with pytest.raises(SourceInvalid, match="compressed"):
        fetcher_of(server).fetch(server.url, limits)
    assert "Accept-Encoding: identity" in server.heads[0]
    # Bytes that merely are packed come as they are: whoever judges them finds no text.
    server.script = says(200, bomb)
    assert fetcher_of(server).fetch(server.url, limits).source == bomb


@pytest.mark.fault(36)
def test_a_body_that_ends_early_is_none(serve: Any, fetcher_of: Any, limits: FetchLimits) -> None:
    server = serve(
        lambda peer, head: peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nexport")
    )
    with pytest.raises(SourceUnavailable):
        fetcher_of(server).fetch(server.url, limits)


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    "media_type",
    ["text/html; charset=utf-8", "application/json", "application/xhtml+xml", "image/svg+xml"],
)
def test_pages_and_data_are_no_modules(
    media_type: str, serve: Any, says: Any, fetcher_of: Any, limits: FetchLimits
) -> None:
    server = serve(says(200, b"<html>log in</html>", Content_Type=media_type))
    with pytest.raises(SourceInvalid) as refused:
        fetcher_of(server).fetch(server.url, limits)
    assert media_type.partition(";")[0] in refused.value.detail
    assert "log in" not in refused.value.detail


def test_a_media_type_of_nobody_is_not_repeated(
    serve: Any, says: Any, fetcher_of: Any, limits: FetchLimits
) -> None:
    server = serve(says(200, b"x", Content_Type="image/\x1b[2J"))
    with pytest.raises(SourceInvalid, match="another media type") as refused:
        fetcher_of(server).fetch(server.url, limits)
    assert "\x1b" not in refused.value.detail


@pytest.mark.parametrize(
    "media_type",
    [
        "text/javascript",
        "application/javascript",
        "text/plain",
        "application/octet-stream",
        "video/mp2t",
        "text/typescript; charset=utf-8",
        "",
    ],
)
def test_what_servers_call_modules(
    media_type: str, serve: Any, says: Any, fetcher_of: Any, module: bytes, limits: FetchLimits
) -> None:
    server = serve(says(Content_Type=media_type))
    assert fetcher_of(server).fetch(server.url, limits).source == module


@pytest.mark.fault(37)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (204, SourceInvalid),
        (206, SourceInvalid),
        (300, SourceInvalid),
        (302, SourceInvalid),
        (304, SourceInvalid),
        (401, SourceInvalid),
        (404, SourceInvalid),
        (429, SourceUnavailable),
        (500, SourceUnavailable),
        (503, SourceUnavailable),
    ],
)
def test_other_answers_are_no_sources(
    status: int, error: Any, serve: Any, says: Any, fetcher_of: Any, limits: FetchLimits
) -> None:
    server = serve(says(status))
    with pytest.raises(error, match=str(status)):
        fetcher_of(server).fetch(server.url, limits)


@pytest.mark.fault(34)
def test_redirects_are_followed_three_times(
    serve: Any, says: Any, answer: Any, fetcher_of: Any, module: bytes, limits: FetchLimits
) -> None:
    def script(peer: Any, head: str) -> None:
        left = int(head.partition("left=")[2].partition(" ")[0])
        peer.sendall(answer(302, b"", Location=f"?left={left - 1}") if left else answer())

    server = serve(script)
    fetcher = fetcher_of(server)
    assert fetcher.fetch(f"{server.url}?left=3", limits).source == module
    assert len(server.heads) == 4
    with pytest.raises(SourceBlocked, match="more than 3"):
        fetcher.fetch(f"{server.url}?left=4", limits)
    assert len(server.heads) == 8


@pytest.mark.fault(34)
def test_redirects_lead_only_where_the_first_request_might(
    serve: Any, says: Any, fetcher_of: Any, limits: FetchLimits
) -> None:
    inside = serve()
    for location in (inside.url, "http://127.0.0.1/", "http://169.254.169.254/", "file:///x"):
        server = serve(says(302, b"", Location=location, Set_Cookie="a=b"))
        with pytest.raises(SourceBlocked) as refused:
            fetcher_of(server).fetch(server.url, limits)
        assert "127.0.0.1" not in refused.value.detail
        assert "169.254" not in refused.value.detail
    assert inside.came == 0
    # A host the operator named may be led to.
    server = serve(says(302, b"", Location=inside.url, Set_Cookie="a=b"))
    assert fetcher_of(server, inside).fetch(server.url, limits) is not None
    assert "ookie" not in inside.heads[0]


@pytest.mark.fault(38)
def test_nothing_is_taken_from_the_environment(
    serve: Any, fetcher_of: Any, limits: FetchLimits, tmp_path: Path, monkeypatch: Any
) -> None:
    proxy, server = serve(), serve()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://{proxy.where}")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert fetcher_of(server).fetch(server.url, limits) is not None
    assert proxy.came == 0
    assert "uthorization" not in server.heads[0]


@pytest.mark.fault(39)
def test_closed_and_silent_ports_are_told_alike(
    serve: Any, fetcher_of: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    silent = serve(lambda peer, head: time.sleep(1))
    rude = serve(lambda peer, head: peer.sendall(b"SSH-2.0-secret\r\n"))
    closed = serve()
    closed.close()
    details = set()
    for server in (silent, rude, closed):
        with pytest.raises(SourceUnavailable) as refused:
            fetcher_of(server).fetch(server.url, FetchLimits(1000, 0.4))
        details.add((refused.value.detail, refused.value.code))
    assert len(details) == 1
    assert "secret" not in str(details) + caplog.text


def test_an_etag_is_told_and_asked_with(
    serve: Any, answer: Any, fetcher_of: Any, limits: FetchLimits
) -> None:
    server = serve(lambda peer, head: peer.sendall(answer(ETag='"one"')))
    fetcher = fetcher_of(server)
    assert fetcher.fetch(server.url, limits).etag == '"one"'
    server.script = lambda peer, head: peer.sendall(
        answer(304, b"") if 'If-None-Match: "one"' in head else answer()
    )
    assert fetcher.fetch(server.url, limits, '"one"') is None
    server.script = lambda peer, head: peer.sendall(answer(ETag="x" * 2000))
    assert fetcher.fetch(server.url, limits).etag is None


def test_certificates_are_checked(
    serve: Any, authority: Any, fetcher_of: Any, module: bytes, limits: FetchLimits
) -> None:
    server = serve(tls=authority.server)
    good = fetcher_of(server, CA_FILE=str(authority.file))
    assert good.fetch(server.url, limits).source == module
    for fetcher, url in (
        (fetcher_of(server), server.url),  # an authority nobody knows
        (
            fetcher_of(ALLOW_HOSTS=f"localhost:{server.port}", CA_FILE=str(authority.file)),
            f"https://localhost:{server.port}/",  # a name it does not vouch for
        ),
    ):
        with pytest.raises(SourceUnavailable):
            fetcher.fetch(url, limits)


def test_what_is_under_way_ends_with_the_fetcher(serve: Any, fetcher_of: Any) -> None:
    server = serve(drip(UNBOUNDED))
    fetcher = fetcher_of(server)
    raised: list[Exception] = []

    def fetch() -> None:
        try:
            fetcher.fetch(server.url, FetchLimits(100_000, 30))
        except Exception as error:
            raised.append(error)

    waiting = threading.Thread(target=fetch)
    waiting.start()
    _until(lambda: server.heads)
    began = time.monotonic()
    fetcher.close()
    waiting.join()
    assert time.monotonic() - began < 2
    assert isinstance(raised[0], SourceUnavailable)
    assert not fetcher._running
    with pytest.raises(SourceUnavailable):
        fetcher.fetch(server.url, FetchLimits(100_000, 30))


def test_only_so_many_are_fetched_at_once(serve: Any, fetcher_of: Any) -> None:
    held = threading.Event()
    server = serve(lambda peer, head: held.wait(10) and peer.sendall(b"HTTP/1.1 404 No\r\n\r\n"))
    fetcher = fetcher_of(server)
    found: list[type[Exception]] = []

    def fetch() -> None:
        try:
            fetcher.fetch(server.url, FetchLimits(1000, 10))
        except FaasError as error:
            found.append(type(error))

    threads = [threading.Thread(target=fetch) for _ in range(20)]
    for thread in threads:
        thread.start()
    _until(lambda: len(found) == 4)
    assert set(found) == {CapacityError}
    held.set()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert len([kind for kind in found if kind is CapacityError]) == 4


def _until(condition: Callable[[], Any], seconds: float = 5.0) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "not in time"
        time.sleep(0.01)
