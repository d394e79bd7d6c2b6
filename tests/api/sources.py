"""Where the tests of the API put sources to be fetched."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lowcode_faas_core.testing.memory_source import MemorySourceFetcher


class Sources:
    """A server on loopback, which the service is told to be its operator's own."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        #: Status and headers of what is answered otherwise than with the source.
        self.instead: dict[str, tuple[int, dict[str, str]]] = {}
        #: Each request: its path, and the tag it came with.
        self.asked: list[tuple[str, str | None]] = []
        sources = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tag = self.headers["If-None-Match"]
                sources.asked.append((self.path, tag))
                body = sources.kept.get(self.path, b"")
                etag = f'"{hashlib.sha256(body).hexdigest()}"'
                status, headers = sources.instead.get(self.path, (200 if body else 404, {}))
                if status == 200 and tag == etag:
                    status, body = 304, b""
                self.send_response(status)
                for name, value in {"ETag": etag, **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._serving = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.005}
        )
        self._serving.start()
        self.base = f"http://127.0.0.1:{self._server.server_port}"
        self.environ = {
            "LOWCODE_FAAS_SOURCE_ALLOW_HTTP": "true",
            "LOWCODE_FAAS_SOURCE_ALLOW_HOSTS": self.base.removeprefix("http://"),
        }

    def publish(self, source: str | bytes, name: str = "greet.mjs") -> str:
        """Put a source where it can be fetched, and return its URL."""
        self.kept[f"/{name}"] = source.encode() if isinstance(source, str) else source
        return f"{self.base}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()


class MemorySources:
    """The same for the stub, in a dictionary."""

    def __init__(self) -> None:
        self.fetcher = MemorySourceFetcher()
        self.publish("export const handler = () => 1;", "pulled")

    def publish(self, source: str | bytes, name: str = "greet.mjs") -> str:
        """Put a source where it can be fetched, and return its URL."""
        url = f"memory:{name}"
        self.fetcher.sources[url] = source.encode() if isinstance(source, str) else source
        return url
