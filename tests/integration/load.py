"""Clients of a service in a process of their own, so that they do not take turns with the test.

Reads what to do as JSON from standard input, prints what was answered as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from typing import Any

#: Seconds between two bytes of a slow client, and between two looks at health.
DRIP_S = 1.0
HEALTH_S = 0.1
#: Longest wait for an answer, in seconds; counted as a failure.
PATIENCE_S = 30.0


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(head[0].split()[1]), headers, body


class Load:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.host, self.port = plan["host"], plan["port"]
        self.plan = plan
        self.end = time.monotonic() + plan["seconds"]
        #: Of each kind of client: [status, ms, what it said].
        self.answers: dict[str, list[tuple[int, float, str]]] = {"health": []}
        self.failures: list[str] = []

    async def exchange(
        self, kind: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> int:
        began = time.perf_counter()
        writer.write(request)
        status, headers, body = await asyncio.wait_for(read_answer(reader), PATIENCE_S)
        took_ms = (time.perf_counter() - began) * 1e3
        said = ""
        if status != 200:
            problem = json.loads(body)
            said = f"{problem['code']} {problem.get('outcome')} {problem['detail']}"
            if int(headers["retry-after"]) < 1:
                self.failures.append(f"{status} with Retry-After {headers['retry-after']}")
        self.answers[kind].append((status, took_ms, said))
        return status

    async def client(self, kind: str, group: dict[str, Any]) -> None:
        """Invoke over one connection, and wait a moment after each refusal."""
        await asyncio.sleep(random.random() * group["pause_s"])
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            while time.monotonic() < self.end:
                body = json.dumps({"input": {"ms": random.uniform(*group["ms"])}}).encode()
                head = (
                    f"POST /functions/{group['function']}/invoke HTTP/1.1\r\nHost: localhost\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                status = await self.exchange(kind, head.encode() + body, reader, writer)
                if status != 200:
                    await asyncio.sleep(group["pause_s"])
        finally:
            writer.close()

    async def health(self) -> None:
        """Ask for health over a new connection each time."""
        request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        while time.monotonic() < self.end:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            await self.exchange("health", request, reader, writer)
            writer.close()
            await asyncio.sleep(HEALTH_S)

    async def slow(self) -> None:
        """Send a head that never ends, a byte at a time."""
        _, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(b"POST /functions/x/invoke HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        while (left := self.end - time.monotonic()) > 0:
            await asyncio.sleep(min(DRIP_S, left))
            writer.write(b"a")
        writer.close()

    async def run(self) -> None:
        async def watched(what: Any) -> None:
            try:
                await what
            except (OSError, EOFError, TimeoutError, KeyError, ValueError) as error:
                self.failures.append(repr(error))

        clients = [self.health(), *(self.slow() for _ in range(self.plan["slow"]))]
        for kind, group in self.plan["groups"].items():
            self.answers[kind] = []
            clients += [self.client(kind, group) for _ in range(group["clients"])]
        await asyncio.gather(*map(watched, clients))


if __name__ == "__main__":
    load = Load(json.load(sys.stdin))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(load.run())
    json.dump({"answers": load.answers, "failures": load.failures}, sys.stdout)
