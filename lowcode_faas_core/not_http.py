"""What a client is told that sent no HTTP: a problem, as the application answers everything else.

gunicorn's master has this module, too.
"""

from __future__ import annotations

import json

from lowcode_faas_core.ids import new_id

__all__ = ["ErrorPage", "problem_answer"]


class ErrorPage:
    """Stands in for the client where gunicorn writes its error page; keeps the status line."""

    status = 0
    reason = ""

    def gettimeout(self) -> float:
        """Never wait."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """Take the page."""
        line = data.split(b"\r\n", 1)[0].decode("latin-1")
        _, status, self.reason = line.split(" ", 2)
        self.status = int(status)


def problem_answer(status: int, reason: str) -> bytes:
    """Return a whole answer that ends its connection."""
    code = "malformed_request" if status < 500 else "internal_error"
    document = {
        "type": f"urn:lowcode-faas:problem:{code}",
        "title": reason,
        "status": status,
        # gunicorn's own words repeat what the client sent; the service's log has them.
        "detail": f"the request cannot be read as HTTP: {reason}" if status < 500 else reason,
        "code": code,
        "request_id": new_id(),
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
        f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"X-Request-Id: {document['request_id']}\r\n\r\n"
    )
    return head.encode("latin-1") + body
