"""What ``make run`` does: serve in the foreground, deploy the examples into an empty store, show how.

This process becomes the service itself, so that Ctrl-C and every other signal reach it directly;
a child guides: it waits until the service is ready, deploys, invokes ``greet`` and prints.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from lowcode_faas_core.cli.sources import LANGUAGES, Folder, Source, folders
from lowcode_faas_core.configuration import ClientSettings, ServerSettings
from lowcode_faas_core.errors import ConfigurationError, StartError
from lowcode_faas_core.server import check_port
from lowcode_faas_core.settings import read
from lowcode_faas_core.startup import ProcessRole, Startup, first_token

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
DEFAULTS = {
    "LOWCODE_FAAS_LISTEN": "127.0.0.1:8080",
    "LOWCODE_FAAS_STORAGE": "files",
    "LOWCODE_FAAS_RUNNER": "process",
    "LOWCODE_FAAS_METRICS": "prometheus",
}
#: Only with the storage it belongs to: elsewhere it would be an unknown variable.
FILES_DEFAULTS = {"LOWCODE_FAAS_FILES_KEEP_VERSIONS": "20"}
#: Seconds until the guide stops waiting; a first start compiles the Python of every package.
READY_S = 60.0
PR_SET_PDEATHSIG = 1


class Api:
    """The service's own HTTP API, as any caller would use it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = urllib3.PoolManager(retries=False, timeout=30.0)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and parsed body; raises ``urllib3`` errors when nothing answers."""
        answer = self.http.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self.headers},
        )
        return answer.status, json.loads(answer.data) if answer.data else None

    def must(self, method: str, path: str, body: object = None) -> Any:
        """Return the body of a 2xx answer, else stop with what was answered."""
        status, document = self.call(method, path, body)
        if status >= 300:
            raise SystemExit(f"{method} {path} answered {status}: {json.dumps(document)}")
        return document


def say(text: str) -> None:
    """Print at once: what is printed here is read while the service runs on."""
    print(text, flush=True)


def deploy_examples(api: Api) -> int:
    """Deploy what runs here; return how many functions there are. What is refused is named."""
    deployed = 0
    for folder in folders(EXAMPLES, ""):
        # Those are Python packages, and what building one leaves there is no function.
        if folder.path.is_relative_to(EXAMPLES / "plugins"):
            continue
        if folder.collection:
            body: dict[str, Any] = {"path": folder.collection, **env_of(folder)}
            if not accepted(api, folder.path, "/collections", body):
                continue
        for source in folder.sources:
            body = {
                "name": source.name,
                "language": LANGUAGES[source.path.suffix],
                "source_code": source.path.read_text(),
                "collection_path": source.collection,
                **env_of(source),
            }
            deployed += accepted(api, source.path, "/functions", body)
    return deployed


def env_of(item: Folder | Source) -> dict[str, Any]:
    """Return the member ``env`` where there is a file with one."""
    return {"env": json.loads(item.env.read_text())} if item.env else {}


def accepted(api: Api, path: Path, to: str, body: dict[str, Any]) -> bool:
    """Post it, and tell whether it is there; a collection that was there before is."""
    status, answer = api.call("POST", to, body)
    if status < 300 or (status == 409 and to == "/collections"):
        return True
    say(f"{path.relative_to(ROOT)} was left out: {answer['detail']}")
    return False


def has_functions(api: Api) -> bool:
    """Tell whether there is a function anywhere: collections alone are nobody's work."""
    return any(
        api.must("GET", f"/functions?limit=1&collection_path={quote(path, safe='')}")["items"]
        for path in collections(api)
    )


def collections(api: Api) -> Iterator[str]:
    """Yield the root and every collection below it."""
    yield ""
    query = "limit=1000"
    while query:
        page = api.must("GET", f"/collections?{query}")
        yield from (each["path"] for each in page["items"])
        cursor = page["next_cursor"]
        query = f"limit=1000&cursor={quote(cursor, safe='')}" if cursor else ""


def wait_ready(api: Api) -> None:
    """Return when ``/readyz`` is green; stop with its reasons when it stays red."""
    deadline = time.monotonic() + READY_S
    answered: object = "no answer"
    while time.monotonic() < deadline:
        try:
            status, answered = api.call("GET", "/readyz")
        except (urllib3.exceptions.HTTPError, ValueError):
            status = 0
        if status == 200:
            return
        time.sleep(0.05)
    raise SystemExit(f"the service is not ready after {READY_S:g} s: {json.dumps(answered)}")


def guide(url: str, token: str) -> None:
    """Wait, deploy into an empty store, invoke once, and print what to try next."""
    api = Api(url, token)
    wait_ready(api)
    if api.call("GET", "/functions")[0] == 401:
        say("\nThe service asks who calls. Name one of its tokens in LOWCODE_FAAS_TOKEN to see the")
        say(
            "examples; `.venv/bin/lowcode-faas token create NAME` makes one.\n\nCtrl-C ends the service."
        )
        return
    if not has_functions(api):
        say(f"\ndeployed {deploy_examples(api)} functions from examples/")
    status, result = api.call("POST", "/functions/greet/invoke", {"input": {"name": "world"}})
    if status == 200:
        say(f"\ngreet answered:\n{json.dumps(result, indent=2)}")
    elif status == 404:
        say("\ngreet is not in this store: the examples go only where there are no functions")
    else:
        say(f"\ngreet was not run ({status}): {json.dumps(result)}")
    source = "export const handler = (input) => ({ ok: true, data: input.n * 2 });"
    deploy = json.dumps({"name": "double", "source_code": source})
    say("\nTry next, in another terminal:\n")
    curl = "curl -s -H 'Content-Type: application/json'"
    if token:
        curl += f" -H 'Authorization: Bearer {token}'"
    if status != 404:
        say(f"{curl} {url}/functions/greet/invoke -d '{json.dumps({'input': {'name': 'you'}})}'")
    say(f"{curl} {url}/functions -d '{deploy}'")
    say(f"{curl} {url}/functions/double/invoke -d '{json.dumps({'input': {'n': 21}})}'")
    say("\nCtrl-C ends the service.")


def set_defaults(values: dict[str, str]) -> None:
    """Set what the environment leaves open; an empty variable counts as not set."""
    for name, value in values.items():
        if not os.environ.get(name):
            os.environ[name] = value


def token_to_show() -> str:
    """Return the token the environment names, or the first one, made and printed now."""
    try:
        given: str = read(os.environ, ClientSettings).token
        if not given:
            given = first_token(Startup.read(os.environ, ProcessRole.DISPATCHER)) or ""
            if given:
                say(f"There were no tokens, so this one was made. It may do everything:\n{given}")
    except StartError:
        return ""  # the service itself reports it, with everything else that is wrong
    return given


def main() -> None:
    """Start the guide, then become the service."""
    os.chdir(ROOT)
    set_defaults(DEFAULTS)
    if os.environ["LOWCODE_FAAS_STORAGE"] == "files":
        set_defaults(FILES_DEFAULTS)
    try:
        server = read(os.environ, ServerSettings)
        # On a port that is taken the guide would deploy into whatever serves there.
        check_port(server, ProcessRole.DISPATCHER)
        host, port = server.listen
    except ConfigurationError:
        host, port = "", 0  # the service itself reports it, with everything else that is wrong
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    token = token_to_show() if host else ""
    service = os.getpid()
    if host and os.fork() == 0:
        # The guide has nothing to say once the service is gone.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if os.getppid() == service:
            guide(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", token)
        sys.exit()
    command = Path(sys.executable).with_name("lowcode-faas")
    os.execv(command, [str(command), "dispatcher"])


if __name__ == "__main__":
    main()
