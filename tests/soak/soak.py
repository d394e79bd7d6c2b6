"""Runs random hostile and honest functions while serving processes and sandboxes are killed.

``python tests/soak/soak.py --seconds 600 --seed 1`` (``make soak``). All of it runs in a pid namespace
of its own, so that no signal can reach anything outside. Exit code 0 when every promise held, 1 with
a list of what did not.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
from functions import CASES, OUTPUT_BYTES, Case, pick
from watch import Footprint, children, footprint, nodes

CLIENTS = 16
WORKERS = 2
CAP = 16
STOCK = 2
#: What a run may take longer than its deadline, in seconds.
GRACE_S = 2.0
#: Time for a kill to show in an answer that was under way, in seconds.
KILL_SHOWS_S = 0.1
#: What the memory of a process may grow by between warm-up and end, in MB.
GROWTH_MB = 25.0
#: Callers of a burst, more than one serving process takes from all the others together; bursts that
#: must bring no more threads, and bursts at most.
BURST = 64
CALM_BURSTS = 4
MOST_BURSTS = 30
#: Wrong things kept word by word; the rest is only counted.
KEPT = 40


@dataclass
class Found:
    """What was counted and what was wrong; appended to by many threads."""

    verdicts: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    sandbox_kills: list[float] = field(default_factory=list)
    worker_kills: list[float] = field(default_factory=list)
    samples: int = 0
    most: int = 0
    latest_s: float = float("-inf")


class Soak:
    """One service, its callers, its killers and its watchers."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.found = Found()
        self.stop = threading.Event()
        self.pause = threading.Event()
        self.busy = threading.Semaphore(CLIENTS)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.output = folder / "service.log"
        settings = {
            "LISTEN": f"127.0.0.1:{port}",
            "STORAGE": "files",
            "DATA_DIR": str(folder / "data"),
            "RUNNER": "process",
            "WORKERS": str(WORKERS),
            "THREADS": "24",
            "MAX_INSTANCES": str(CAP),
            "STOCK": str(STOCK),
            "IDLE_TTL_S": "1",
            "MAX_OUTPUT_BYTES": str(OUTPUT_BYTES),
            "LOG_MAX_RUN_BYTES": "65536",
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        with self.output.open("w") as output:
            self.service = subprocess.Popen(
                [Path(sys.executable).with_name("lowcode-faas"), "dispatcher"],
                env={**environ, **{f"LOWCODE_FAAS_{k}": v for k, v in settings.items()}},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def request(
        self, http: urllib3.PoolManager, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, str]:
        """Return status, parsed body and request id."""
        answer = http.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/json", **headers},
            timeout=60,
            retries=False,
        )
        return answer.status, json.loads(answer.data), answer.headers.get("X-Request-Id", "")

    def begin(self) -> None:
        """Wait until the service is ready and deploy the functions."""
        http = urllib3.PoolManager()
        deadline = time.monotonic() + 30
        while True:
            try:
                if self.request(http, "GET", "/readyz")[0] == 200:
                    break
            except urllib3.exceptions.HTTPError:
                pass
            if time.monotonic() > deadline or self.service.poll() is not None:
                raise SystemExit(f"the service does not start:\n{self.output.read_text()}")
            time.sleep(0.05)
        for case in CASES:
            body = {"name": case.name, "source_code": case.source, **case.members}
            status, answer, _ = self.request(http, "POST", "/functions", body)
            if status != 201:
                raise SystemExit(f"{case.name} is not deployed: {answer}")
        while len(children(self.service.pid)) < WORKERS:
            time.sleep(0.02)
        #: Never killed, so that its memory over the whole time can be compared.
        self.eldest = children(self.service.pid)[0]

    def complain(self, what: str) -> None:
        """Note something that must not be."""
        if len(self.found.wrong) < KEPT:
            print(f"WRONG: {what}", flush=True)
        self.found.wrong.append(what)

    def client(self, number: int, seed: int) -> None:
        """Call random functions until told to stop."""
        source = random.Random(seed)
        count = 0
        while not self.stop.is_set():
            with self.busy:
                http = urllib3.PoolManager()
                while not (self.stop.is_set() or self.pause.is_set()):
                    count += 1
                    try:
                        self.call(http, pick(source), f"{number}x{count}")
                    except Exception as error:  # a caller that dies would look like success
                        self.complain(f"the soak's own client failed: {error!r}")
                http.clear()
            while self.pause.is_set() and not self.stop.is_set():
                time.sleep(0.01)

    def call(self, http: urllib3.PoolManager, case: Case, nonce: str) -> None:
        """Invoke once and judge what comes back."""
        name = f"soak-{nonce}"
        body = {
            "input": {"nonce": nonce},
            "timeout_ms": case.timeout_ms,
            "execution_id": name,
            "run_id": f"run-{nonce}",
            **({"env": {"NONCE": nonce}} if case.env else {}),
        }
        path = f"/functions/{case.name}/invoke"
        began = time.monotonic()
        try:
            status, answer, request_id = self.request(
                http, "POST", path, body, **{"X-Request-Id": f"req-{nonce}"}
            )
        except urllib3.exceptions.HTTPError as error:
            self.excuse(f"connection: {type(error).__name__}", case, began, "worker")
            return
        ended = time.monotonic()
        late = ended - began - case.timeout_ms / 1e3
        self.found.latest_s = max(self.found.latest_s, late)
        if late > GRACE_S:
            self.complain(f"{case.name} took {late:.2f} s longer than its timeout: {answer}")
        if request_id != f"req-{nonce}" or answer.get("request_id") != request_id:
            self.complain(f"{case.name} {name} got the answer to {request_id}: {answer}")
        if status == 200:
            self.judge(case, nonce, answer, began)
        else:
            self.judge_problem(case, status, answer, began)

    def judge(self, case: Case, nonce: str, answer: dict[str, Any], began: float) -> None:
        """Judge a verdict: whose it is, and whether it is one of the function's own."""
        ids = (answer["execution_id"], answer["run_id"], answer["function_name"])
        if ids != (f"soak-{nonce}", f"run-{nonce}", case.name):
            self.complain(f"{case.name} {nonce} was answered for {ids}")
        code = answer["error"]["code"] if answer["error"] else ""
        verdict = f"{answer['status']}/{code}"
        self.found.verdicts[f"{case.name}: {verdict}"] += 1
        if answer["status"] in case.verdicts or verdict in case.verdicts:
            if not case.check(nonce, answer):
                self.complain(f"{case.name} {nonce}: not its own answer: {str(answer)[:2000]}")
        elif verdict in ("crashed/killed", "crashed/sandbox_lost"):
            self.excuse(verdict, case, began, "sandbox")
        elif not (case.hurried and answer["status"] == "timeout"):
            self.complain(f"{case.name} {nonce}: {verdict}: {str(answer)[:2000]}")

    def judge_problem(self, case: Case, status: int, answer: dict[str, Any], began: float) -> None:
        """Judge an answer without a verdict: only what did not run, and for a reason."""
        what = f"{status} {answer.get('code')}"
        self.found.verdicts[f"{case.name}: {what}"] += 1
        if answer.get("outcome") != "not_executed":
            self.complain(f"{case.name}: {what}: {answer}")
        elif status == 503 and answer.get("code") == "runner_unavailable" and not case.hurried:
            self.excuse(what, case, began, "sandbox")
        elif status not in (429, 503):
            self.complain(f"{case.name}: {what}: {answer}")

    def excuse(self, what: str, case: Case, began: float, kind: str) -> None:
        """Accept what a kill of ours can have caused."""
        self.found.excused[f"{kind}: {what}"] += 1
        kills = self.found.worker_kills if kind == "worker" else self.found.sandbox_kills
        if not any(began - KILL_SHOWS_S <= moment for moment in kills[-40:]):
            self.complain(f"{case.name}: {what}, but no {kind} was killed meanwhile")

    def fill(self) -> None:
        """Call until the serving process starts no more threads: its pools of them grow only to a limit.

        A first request and the start of a sandbox have threads of different pools, so a caller makes both.
        """
        burst = calm = 0
        while calm < CALM_BURSTS and burst < MOST_BURSTS:
            burst += 1
            before = footprint(self.eldest).threads
            callers = [
                threading.Thread(target=self.call_twice, args=(burst, number))
                for number in range(BURST)
            ]
            for caller in callers:
                caller.start()
            for caller in callers:
                caller.join()
            calm = 0 if footprint(self.eldest).threads > before else calm + 1

    def call_twice(self, burst: int, number: int) -> None:
        """Make a first request of a connection, and one that starts a sandbox."""
        http = urllib3.PoolManager()
        # Of several functions, since one by itself does not get every thread.
        slow = ("waits", "names", "echo", "logs")
        for name in (slow[number % len(slow)], "fresh"):
            case = next(case for case in CASES if case.name == name)
            try:
                self.call(http, case, f"burst{burst}x{number}{name}")
            except Exception as error:  # a caller that dies would look like success
                self.complain(f"the soak's own client failed: {error!r}")
        http.clear()

    def killer(self, seed: int) -> None:
        """Kill a sandbox now and then, and sometimes the younger serving process."""
        source = random.Random(seed)
        next_worker = time.monotonic() + source.uniform(2, 5)
        while not self.stop.wait(source.uniform(0.1, 0.6)):
            if self.pause.is_set():
                continue
            if time.monotonic() >= next_worker:
                next_worker = time.monotonic() + source.uniform(2, 6)
                young = [pid for pid in children(self.service.pid) if pid != self.eldest]
                if len(young) == WORKERS - 1:
                    self.kill(source.choice(young), self.found.worker_kills)
            elif living := nodes(self.service.pid):
                self.kill(source.choice(living), self.found.sandbox_kills)

    def kill(self, pid: int, noted: list[float]) -> None:
        """Kill -9, noted beforehand: the answer may be faster than this thread."""
        noted.append(time.monotonic())
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            noted.pop()

    def watcher(self) -> None:
        """Compare what the pools say exists with their caps, and with what there is."""
        while not self.stop.wait(0.1):
            self.reap()
            http = urllib3.PoolManager()
            try:
                status, answer, _ = self.request(http, "GET", "/readyz", Connection="close")
            except urllib3.exceptions.HTTPError:
                continue
            finally:
                http.clear()
            said = answer["sandboxes"]
            total = sum(said[s] for s in ("leased", "idle", "stock", "starting", "ending"))
            self.found.samples += 1
            if status != 200:
                self.complain(f"not ready: {answer}")
            if not 0 <= total <= said["cap"] or min(said["leased"], said["ending"]) < 0:
                self.complain(f"the pool holds {total} of {said['cap']}: {said}")
            count = len(nodes(self.service.pid))
            self.found.most = max(self.found.most, count)
            if count > CAP:
                self.complain(f"{count} Node processes where {CAP} are allowed")

    def reap(self) -> None:
        """Take in what killed processes left to us, the init of this namespace."""
        while over := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if over.si_pid == self.service.pid:
                return
            os.waitpid(over.si_pid, 0)

    def rest(self) -> tuple[Footprint, Footprint]:
        """Let everything come to rest, and return what master and eldest hold then."""
        self.pause.set()
        for _ in range(CLIENTS):
            self.busy.acquire()
        # A pool of ours closes its connections when it is collected: some hang in cycles of errors.
        gc.collect()
        http = urllib3.PoolManager()
        deadline = time.monotonic() + 30
        calm = 0
        while calm < 8:
            _, answer, _ = self.request(http, "GET", "/readyz", Connection="close")
            said = answer["sandboxes"]
            resting = (
                said["stock"] == STOCK // WORKERS
                and not any(said[s] for s in ("leased", "idle", "starting", "ending", "waiting"))
                and said["in_flight"] == 0
                and len(nodes(self.service.pid)) == STOCK
            )
            calm = calm + 1 if resting else 0
            if time.monotonic() > deadline:
                self.complain(f"no rest: {said}; {len(nodes(self.service.pid))} Node processes")
                break
            time.sleep(0.05)
        http.clear()
        held = footprint(self.service.pid), footprint(self.eldest)
        print(f"at rest: master {held[0]}; serving {held[1]}", flush=True)
        for _ in range(CLIENTS):
            self.busy.release()
        self.pause.clear()
        return held

    def run(self, seconds: float) -> None:
        """Soak: warm up for a quarter of the time, a minute at most, and compare with the end."""
        threads = [
            threading.Thread(target=self.client, args=(n, self.random.getrandbits(64)))
            for n in range(CLIENTS)
        ]
        threads.append(threading.Thread(target=self.killer, args=(self.random.getrandbits(64),)))
        threads.append(threading.Thread(target=self.watcher))
        for thread in threads:
            thread.start()
        warm_up = min(seconds / 3, 60)
        try:
            time.sleep(warm_up)
            self.fill()
            before = self.rest()
            left = seconds - warm_up
            while left > 90:
                time.sleep(60)
                self.rest()
                left -= 60
            time.sleep(left)
            after = self.rest()
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
        for who, then, now in zip(("master", "serving process"), before, after, strict=True):
            if now.rss_mb - then.rss_mb > GROWTH_MB or now.descriptors > then.descriptors + 2:
                more = dict(now.open - then.open)
                self.complain(f"the {who} grew: {then}, then {now}; more of {more}")
            if now.threads > then.threads + 2:
                self.complain(f"the {who} has more threads: {then}, then {now}")

    def end(self) -> None:
        """Stop the service and see that it ends clean."""
        everyone = [*children(self.service.pid), *nodes(self.service.pid)]
        if self.eldest not in everyone:
            self.complain("a serving process ended although nobody killed it")
        self.service.send_signal(signal.SIGINT)
        try:
            code = self.service.wait(15)
        except subprocess.TimeoutExpired:
            self.service.kill()
            code = None
        if code != 0:
            self.complain(f"the service ended with {code}")
        said = self.output.read_text(errors="replace")
        boots = said.count("Booting worker")
        if boots != WORKERS + len(self.found.worker_kills):
            self.complain(f"{boots} starts of serving processes")
        for sign in ("Traceback", "unforeseen error"):
            if sign in said:
                at = said.index(sign)
                self.complain(f"the service's log has: {said[max(0, at - 500) : at + 3000]}")

    def report(self) -> None:
        """Print the figures."""
        found = self.found
        for verdict, count in sorted(found.verdicts.items()):
            print(f"  {count:7} {verdict}")
        for what, count in sorted(found.excused.items()):
            print(f"  {count:7} excused by a kill, {what}")
        lost = sum(n for what, n in found.excused.items() if what.startswith("sandbox"))
        if lost > len(found.sandbox_kills):
            self.complain(f"{lost} runs lost to {len(found.sandbox_kills)} kills of sandboxes")
        print(
            f"{sum(found.verdicts.values())} invocations at {CLIENTS} concurrent; "
            f"{len(found.sandbox_kills)} sandboxes and {len(found.worker_kills)} serving processes "
            f"killed; {found.samples} samples, Node processes at most {found.most} of {CAP}; "
            f"latest answer {found.latest_s:+.2f} s after its deadline; {len(found.wrong)} wrong"
        )


def enclose() -> None:
    """Go on in a pid namespace of our own, unless this is its first process."""
    if os.getpid() == 1:
        return
    user = ["--user", "--map-root-user"] if os.geteuid() else []
    spaces = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvp("unshare", ["unshare", *user, *spaces, sys.executable, *sys.argv])


def main() -> int:
    """Soak for as long as the arguments, or the environment, say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK_SECONDS", 600)))
    parser.add_argument(
        "--seed", type=int, default=int(os.environ.get("SOAK_SEED", 0)) or time.time_ns() % 10**9
    )
    options = parser.parse_args()
    enclose()
    print(f"soak: {options.seconds:g} s, seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        soak = Soak(options.seed, Path(folder))
        try:
            soak.begin()
            soak.run(options.seconds)
            soak.end()
        finally:
            if soak.service.poll() is None:
                soak.service.kill()
                soak.service.wait()
    soak.report()
    return 1 if soak.found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
