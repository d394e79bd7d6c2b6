"""A network of one machine: run in namespaces of its own, where every address is on its loopback.

Public hosts, private ones and the metadata services of clouds all are there, and answer: what is
fetched from where it must not be is really fetched. Names are resolved by the system's resolver,
which asks the server here. Reads requests as JSON lines, answers each with what came of it, who
was connected to, and what was resolved.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset

PUBLIC, PUBLIC6 = "93.184.216.34", "2606:4700:4700::1111"
V4 = [PUBLIC, "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "192.0.0.192"]
V6 = [PUBLIC6, "fd00:ec2::254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "fec0::1", "::7f00:1"]
#: Answers by name: each is given once and the last for ever; a list of addresses is one answer.
NAMES: dict[str, list[list[str]]] = {
    "code.example.": [[PUBLIC]],
    "six.example.": [[PUBLIC6]],
    "inside.example.": [["10.0.0.1"]],
    "local.example.": [["127.0.0.1"]],
    "rebind.example.": [[PUBLIC], ["127.0.0.1"]],
    "unbind.example.": [["127.0.0.1"], [PUBLIC]],
    "mixed.example.": [["127.0.0.1", PUBLIC]],
    "turned.example.": [[PUBLIC, "10.0.0.1"]],
}
SILENT = "silent.example."

_SIOCSIFADDR, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFNETMASK = 0x8916, 0x8913, 0x8914, 0x891C

connected: list[str] = []
resolved: list[str] = []


def raise_loopback() -> None:
    """Bring ``lo`` up, with every address on it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = fcntl.ioctl(control, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        up = struct.unpack("16sh22x", flags)[1] | 1
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", up))
        for number, address in enumerate(V4):
            for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, "255.255.255.255")):
                packed = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
                name = f"lo:{number}".encode()
                fcntl.ioctl(control, request, struct.pack("16s16s8x", name, packed))
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as control:
        index = socket.if_nametoindex("lo")
        for address in V6:
            packed = socket.inet_pton(socket.AF_INET6, address)
            fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16sIi", packed, 128, index))


def use_resolver(folder: Path) -> None:
    """Have the system's resolver ask the server here."""
    file = folder / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    place = os.path.realpath("/etc/resolv.conf")
    subprocess.run(["mount", "--bind", str(file), place], check=True)


def resolve(server: socket.socket) -> None:
    """Answer queries for ever."""
    turns: dict[tuple[str, int], int] = {}
    while True:
        wire, peer = server.recvfrom(4096)
        query = dns.message.from_wire(wire)
        (question,) = query.question
        name, kind = question.name.to_text().lower(), question.rdtype
        resolved.append(f"{name} {dns.rdatatype.to_text(kind)}")
        if name == SILENT:
            continue
        answer = dns.message.make_response(query)
        answers = NAMES.get(name)
        if answers is None:
            answer.set_rcode(3)  # there is no such name
        else:
            turn = turns.get((name, kind), 0)
            turns[name, kind] = turn + 1
            wanted = dns.rdatatype.AAAA if ":" in answers[0][0] else dns.rdatatype.A
            if kind == wanted:
                found = answers[min(turn, len(answers) - 1)]
                answer.answer.append(dns.rrset.from_text(name, 0, "IN", kind, *found))
        server.sendto(answer.to_wire(), peer)


def speak(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    """Answer every connection with a module that says where it came from."""
    while True:
        peer, _ = listener.accept()
        where = peer.getsockname()[0]
        connected.append(where.removeprefix("::ffff:"))
        threading.Thread(target=answer, args=(peer, tls), daemon=True).start()


def answer(peer: socket.socket, tls: ssl.SSLContext | None) -> None:
    with contextlib.suppress(OSError), peer:
        where = connected[-1]
        if tls is not None:
            peer = tls.wrap_socket(peer, server_side=True)
        head = b""
        while not head.endswith(b"\r\n\r\n") and (piece := peer.recv(65536)):
            head += piece
        if not head:
            return
        path = urllib.parse.unquote(head.split(b" ")[1].decode())
        body = f"export const handler = () => ({{ ok: true, data: '{where}' }});".encode()
        if path.startswith("/to/"):
            peer.sendall(
                f"HTTP/1.1 302 Found\r\nLocation: {path[4:]}\r\nContent-Length: 0\r\n\r\n".encode()
            )
        else:
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def listen(port: int, tls: ssl.SSLContext | None = None) -> None:
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=speak, args=(listener, tls), daemon=True).start()


def fetch(asked: dict[str, Any]) -> dict[str, Any]:
    # Not before there is a network: urllib3 looks once, when it is imported, whether IPv6 works.
    from lowcode_faas_http_source import HttpSourceFetcher, HttpSourceSettings

    from lowcode_faas_core.errors import FaasError
    from lowcode_faas_core.interfaces.source import FetchLimits
    from lowcode_faas_core.settings import read

    environ = {f"LOWCODE_FAAS_SOURCE_{k}": v for k, v in asked["variables"].items()}
    fetcher = HttpSourceFetcher(read(environ, HttpSourceSettings))
    connected.clear()
    resolved.clear()
    began = time.monotonic()
    try:
        found = fetcher.fetch(asked["url"], FetchLimits(100_000, asked["timeout_s"]))
        result: dict[str, Any] = {"source": found.source.decode() if found else None}
    except FaasError as error:
        result = {"code": error.code, "detail": error.detail}
    result["took_s"] = time.monotonic() - began
    time.sleep(0.02)  # a connection that should not be may be on its way still
    fetcher.close()
    return {**result, "connected": list(connected), "resolved": list(resolved)}


def main() -> None:
    folder = Path(sys.argv[1])
    raise_loopback()
    use_resolver(folder)
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    threading.Thread(target=resolve, args=(names,), daemon=True).start()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "authority.pem", folder / "key.pem")
    listen(80)
    listen(443, tls)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(fetch(json.loads(line))), flush=True)


main()
