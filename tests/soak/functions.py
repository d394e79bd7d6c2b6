"""The functions of the soak: honest and hostile ones, each of which knows its verdicts."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CASES", "OUTPUT_BYTES", "Case"]

#: What the service allows for one output; ``large`` goes over it.
OUTPUT_BYTES = 1_000_000
#: Timeout of what should never run into it, in ms.
PATIENT_MS = 20_000

Check = Callable[[str, Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Case:
    """A function, how often it is called in comparison, and what may come of a call."""

    name: str
    source: str
    #: ``status`` or ``status/code``, as the answer has them.
    verdicts: Sequence[str]
    #: Called with the caller's nonce and the answer, for what must be its own.
    check: Check = field(default=lambda nonce, answer: True)
    timeout_ms: int = PATIENT_MS
    weight: int = 4
    env: bool = False
    members: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hurried(self) -> bool:
        """Whether its deadline may pass before it runs, on a busy machine."""
        return self.timeout_ms < PATIENT_MS


def _data(nonce: str, answer: Mapping[str, Any]) -> bool:
    return bool(answer["output"] == {"ok": True, "data": nonce})


CASES: Sequence[Case] = (
    # Honest
    Case("echo", "export const handler = (i) => ({ ok: true, data: i.nonce });",
         ["succeeded"], _data, weight=40),
    Case("typed", "export const handler = (i: { nonce: string }) => ({ ok: true, data: i.nonce });",
         ["succeeded"], _data, members={"language": "typescript"}),
    Case("waits", """export const handler = async (i) => {
           await new Promise((r) => setTimeout(r, 20 + Math.random() * 200));
           return { ok: true, data: i.nonce };
         };""", ["succeeded"], _data, weight=20),
    Case("names", """export const handler = async (i, c) => {
           await new Promise((r) => setTimeout(r, 5));
           return { ok: true, data: c.executionId };
         };""",
         ["succeeded"], lambda _, a: a["output"]["data"] == a["execution_id"], weight=8),
    Case("environment", "export const handler = () => ({ ok: true, data: process.env.NONCE });",
         ["succeeded"], _data, env=True, weight=2),
    Case("fails", "export const handler = (i) => ({ ok: false, error: i.nonce });",
         ["failed"], lambda n, a: a["output"] == {"ok": False, "error": n}),
    Case("throws", "export const handler = (i) => { throw new Error(i.nonce); };",
         ["handler_error"], lambda n, a: n in a["error"]["message"]),
    Case("fresh", "let n = 0; export const handler = (i) => ({ ok: ++n === 1, data: i.nonce });",
         ["succeeded"], _data, members={"reuse": "fresh"}, weight=2),
    Case("logs", """export const handler = (i) => {
           for (let n = 0; n < 50; n++) console.log(i.nonce, n);
           return { ok: true, data: i.nonce };
         };""", ["succeeded"], lambda n, a: _data(n, a) and a["logs"]["lines"] == 50),
    Case("big", "export const handler = (i) => ({ ok: true, data: i.nonce.repeat(10000) });",
         ["succeeded"], lambda n, a: a["output"]["data"] == n * 10000),
    # Hostile
    Case("spins", "export const handler = () => { for (;;); };", ["timeout"], timeout_ms=1000),
    Case("hangs", "export const handler = () => new Promise(() => setInterval(() => {}, 50));",
         ["timeout"], timeout_ms=1200),
    Case("loads_for_ever", """setInterval(() => {}, 50); await new Promise(() => {});
         export const handler = () => ({ ok: true });""", ["timeout"], timeout_ms=1500, weight=2),
    Case("exits", "export const handler = () => process.exit(3);", ["crashed/exited"], weight=2),
    Case("kills_itself", "export const handler = () => { process.kill(process.pid, 'SIGKILL'); "
         "for (;;); };", ["crashed/killed"], weight=2),
    # One of the numbers is a thread of its own process.
    Case("kills_all", """export const handler = () => {
           for (let pid = 2; pid < 400; pid++) {
             if (pid !== process.pid) try { process.kill(pid, 'SIGKILL'); } catch {}
           }
           for (;;);
         };""", ["crashed/killed"], weight=2),
    Case("never", "export const handler = () => new Promise(() => {});", ["crashed/never_settled"],
         weight=2),
    Case("eats_heap", """export const handler = () => {
           const kept = []; for (;;) kept.push(new Array(10000).fill(Math.random()));
         };""", ["out_of_memory"], members={"limits": {"memory_mb": 64}}, weight=1),
    Case("eats_buffers", """export const handler = () => {
           const kept = []; for (;;) kept.push(Buffer.alloc(4 << 20, 1));
         };""", ["out_of_memory"], members={"limits": {"memory_mb": 64}}, weight=1),
    Case("wrong", "export const handler = () => 42;", ["invalid_output"]),
    Case("cyclic", "export const handler = () => { const o = { ok: true }; o.o = o; return o; };",
         ["invalid_output"]),
    Case("large", f"export const handler = () => ({{ ok: true, data: 'x'.repeat({OUTPUT_BYTES}) }});",
         ["output_too_large"], weight=2),
    Case("broken", "await import('data:text/javascript,const 5');",
         ["invalid_handler/syntax_error"], weight=2),
    Case("nothing", "export const other = 1;", ["invalid_handler/no_handler"], weight=2),
    Case("forges", """import fs from 'node:fs';
         export const handler = () => {
           fs.writeSync(3, Buffer.alloc(40, 'R'));
           return { ok: true };
         };""", ["crashed/protocol_error"], weight=2),
    Case("leaves_a_throw", """export const handler = (i) => {
           setTimeout(() => { throw new Error('late'); }, 3);
           return { ok: true, data: i.nonce };
         };""", ["succeeded", "handler_error"],
         lambda n, a: a["status"] != "succeeded" or _data(n, a), weight=2),
    Case("floods", """import fs from 'node:fs';
         export const handler = (i) => {
           for (let n = 0; n < 20; n++) fs.writeSync(1, 'x'.repeat(50000) + '\\n');
           return { ok: true, data: i.nonce };
         };""", ["succeeded"], _data, weight=2),
)  # fmt: skip


def pick(source: random.Random) -> Case:
    """Return a case, by weight."""
    return source.choices(CASES, [case.weight for case in CASES])[0]
