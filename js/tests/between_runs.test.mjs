import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { loaded } from './sandbox.mjs';

test('between runs user code is frozen', async (t) => {
  const sandbox = await loaded(t, `let ticks = 0;
    export async function handler() {
      if (ticks === 0) setInterval(() => ticks++, 1);
      const before = ticks;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { ok: true, data: [before, ticks] };
    }`);
  const [, left] = (await sandbox.run()).body.data;
  await sleep(50);
  const [found, later] = (await sandbox.run()).body.data;
  assert.ok(found - left <= 1, `${found - left} ticks went by while it was frozen`);
  assert.ok(later > found);
});

test('timer_across_runs: it goes on in the next run and prints for the run that made it', async (t) => {
  const sandbox = await loaded(t, `export async function handler({ first }) {
    if (first) { setTimeout(() => console.log('late'), 5); return { ok: true }; }
    await new Promise((resolve) => setTimeout(resolve, 30));
    console.log('mine');
    return { ok: true };
  }`);
  await sandbox.run({ first: true }, { id: 'exec-first' });
  assert.deepEqual(sandbox.logs, []);
  await sandbox.run({}, { id: 'exec-second' });
  assert.deepEqual(sandbox.messages('exec-first'), ['late']);
  assert.deepEqual(sandbox.messages('exec-second'), ['mine']);
});

test('late_log: promises, ticks, emitters and immediates of an earlier run keep its name', async (t) => {
  const sandbox = await loaded(t, `let release; const gate = new Promise((resolve) => (release = resolve));
    export async function handler({ first }) {
      if (first) {
        gate.then(() => console.log('promise'));
        (async () => { await gate; console.log('await'); process.nextTick(() => console.log('tick')); })();
        setImmediate(() => console.log('immediate'));
        return { ok: true };
      }
      release();
      await new Promise((resolve) => setTimeout(resolve, 10));
      return { ok: true };
    }`);
  await sandbox.run({ first: true }, { id: 'exec-first' });
  await sandbox.run({}, { id: 'exec-second' });
  assert.deepEqual(sandbox.messages('exec-first').sort(), ['await', 'immediate', 'promise', 'tick']);
  assert.deepEqual(sandbox.messages('exec-second'), []);
});

test('a late throw or rejection blames its own run and retires the instance', async (t) => {
  for (const late of ["throw new Error('late');", "Promise.reject(new Error('late'));", "process.nextTick(() => { throw new Error('late'); });"]) {
    const sandbox = await loaded(t, `export async function handler({ first, fail, wrong }) {
      if (first) { setTimeout(() => { ${late} }, 5); return { ok: true }; }
      await new Promise((resolve) => setTimeout(resolve, 30));
      if (fail) throw new Error('mine');
      return wrong ? 5 : { ok: true, data: 2 };
    }`);
    assert.equal((await sandbox.run({ first: true }, { id: 'exec-first' })).kind, 'd');
    const second = await sandbox.run({}, { id: 'exec-second' });
    assert.equal(second.kind, 'D', late);
    assert.deepEqual(second.body, { ok: true, data: 2 });
    assert.equal(sandbox.logs.length, 1);
    const [log] = sandbox.logs;
    assert.equal(log.x, 'exec-first');
    assert.equal(log.l, 'error');
    assert.match(log.m, /^uncaught after the run: Error: late\n    at .*greet\.mjs:2:/);
    assert.equal((await sandbox.run({ fail: true })).body.retire, true);
    assert.equal((await sandbox.run({ wrong: true })).body.retire, true);
  }
});

test('unhandled_after_return: a rejection left behind fails its run', async (t) => {
  for (const kind of ['async ', '']) {
    const sandbox = await loaded(t, `export ${kind}function handler() { Promise.reject(new TypeError('left')); return { ok: true }; }`);
    const frame = await sandbox.run();
    assert.equal(frame.kind, 'e');
    const { stack, ...rest } = frame.body;
    assert.deepEqual(rest, { retire: true, code: 'handler_error', message: 'left' });
    assert.match(stack, /^TypeError: left\n    at handler \(greet\.mjs:1:\d+\)$/);
  }
});

test('a rejection handled in time is none', async (t) => {
  const sandbox = await loaded(t, `export async function handler() {
    const failing = Promise.reject(new Error('x'));
    await null;
    failing.catch(() => {});
    await Promise.allSettled([Promise.reject(1), Promise.reject(2)]);
    return { ok: true };
  }`);
  for (let n = 0; n < 3; n++) assert.equal((await sandbox.run()).kind, 'd');
});

test('what throws during a run fails it, from wherever', async (t) => {
  const sources = {
    timer: "setTimeout(() => { throw new Error('async'); }, 1);",
    rejection: "setTimeout(() => Promise.reject(new Error('async')), 1);",
    tick: "process.nextTick(() => { throw new Error('async'); });",
    microtask: "queueMicrotask(() => { throw new Error('async'); });",
    emitter: "setTimeout(() => new (process.constructor)().emit('error', new Error('async')), 1);",
    listener: "context.signal.addEventListener('abort', () => { throw new Error('async'); });",
  };
  for (const [kind, source] of Object.entries(sources)) {
    const sandbox = await loaded(t, `export async function handler(input, context) { ${source} await new Promise((resolve) => setTimeout(resolve, 2000)); }`);
    const frame = await sandbox.run({}, { timeout: 100 });
    assert.equal(frame.body.code, 'handler_error', kind);
    assert.equal(frame.body.message, 'async');
    assert.equal(frame.body.retire, true);
    assert.match(frame.body.stack, /greet\.mjs:1:/);
  }
});

test('a tick left behind that throws fails its run', async (t) => {
  const sandbox = await loaded(t, "export async function handler() { process.nextTick(() => { throw new Error('tick'); }); return { ok: true }; }");
  const frame = await sandbox.run();
  assert.equal(frame.body.code, 'handler_error');
  assert.equal(frame.body.message, 'tick');
});

test('a timer of the module that throws fails the run it happens in', async (t) => {
  const sandbox = await loaded(t, `setTimeout(() => { throw new Error('module'); }, 1);
    export async function handler() { await new Promise((resolve) => setTimeout(resolve, 1000)); }`);
  const frame = await sandbox.run();
  assert.equal(frame.body.code, 'handler_error');
  assert.equal(frame.body.message, 'module');
});

test('never_settled: a handler with nothing left to wait for', async (t) => {
  for (const source of ['await new Promise(() => {});', 'await { then() {} };', 'await new Promise((resolve) => setTimeout(resolve, 1000).unref());']) {
    const sandbox = await loaded(t, `export async function handler() { console.log('x'); process.stdout.write('half'); ${source} }`);
    const frame = await sandbox.run();
    assert.equal(frame.body.code, 'never_settled', source);
    assert.equal(frame.body.retire, true);
    assert.deepEqual(sandbox.messages(), ['x', 'half']);
  }
});

test('never_settled in a later run, and whatever listens', async (t) => {
  const sandbox = await loaded(t, `process.removeAllListeners(); process.on('beforeExit', () => setTimeout(() => {}, 1e6));
    process.prependListener('beforeExit', () => {});
    process.on('exit', () => { for (;;); });
    export function handler({ hang }) { process.removeAllListeners('uncaughtException'); return hang ? new Promise(() => {}) : { ok: true }; }`);
  assert.equal((await sandbox.run()).kind, 'd');
  assert.equal((await sandbox.run()).kind, 'd');
  assert.equal((await sandbox.run({ hang: true })).body.code, 'never_settled');
});

test('listeners of user code do not take over uncaught errors', async (t) => {
  const sandbox = await loaded(t, `process.on('uncaughtException', () => {}); process.on('unhandledRejection', () => {});
    export async function handler() { Promise.reject(new Error('theirs')); await new Promise((resolve) => setTimeout(resolve, 50)); return { ok: true }; }`);
  assert.equal((await sandbox.run()).body.message, 'theirs');
});

test('listeners put before ours, run after run, do not pile ours up', async (t) => {
  const sandbox = await loaded(t, `export function handler() {
    process.prependListener('exit', () => {});
    return { ok: true, data: process.listenerCount('exit') };
  }`);
  const first = (await sandbox.run()).body.data;
  assert.equal((await sandbox.run()).body.data, first + 1);
  assert.equal((await sandbox.run()).body.data, first + 2);
});

test('an open handle after the return holds nothing up', async (t) => {
  const sandbox = await loaded(t, "export async function handler() { setInterval(() => {}, 1000); return { ok: true }; }");
  for (let n = 0; n < 3; n++) assert.equal((await sandbox.run()).kind, 'd');
});

test('process.exit in a run ends the process', async (t) => {
  const sandbox = await loaded(t, "export async function handler() { console.log('bye'); process.stderr.write('half'); process.on('exit', () => process.stdout.write('last')); process.exit(0); }");
  const end = await sandbox.run();
  assert.equal(end.kind, 'end');
  assert.equal(end.code, 0);
  assert.deepEqual(sandbox.messages(), ['bye', 'half', 'last']);
});
