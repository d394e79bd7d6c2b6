import assert from 'node:assert/strict';
import test from 'node:test';

import { loaded, started } from './sandbox.mjs';

const handling = (body) => `export async function handler(input, context) { ${body} }`;

test('sync and async handlers, a thousand runs, one module', async (t) => {
  for (const keyword of ['', 'async ']) {
    const sandbox = await loaded(t, `let runs = 0; export ${keyword}function handler(input) { return { ok: true, data: [++runs, input.n] }; }`);
    for (let n = 1; n <= 1000; n++) assert.deepEqual((await sandbox.run({ n })).body.data, [n, n]);
  }
});

test('a result that is a failure of the function goes through as it is', async (t) => {
  const sandbox = await loaded(t, handling("return { ok: false, error: 'no stock', code: 'E_STOCK' };"));
  const frame = await sandbox.run();
  assert.equal(frame.kind, 'd');
  assert.deepEqual(frame.body, { ok: false, error: 'no stock', code: 'E_STOCK' });
});

test('what is no JSON object is invalid, and named', async (t) => {
  const sandbox = await loaded(t, `const values = {
    undefined: undefined, null: null, number: 5, nan: NaN, array: [], string: 'x', boolean: true, function: () => {},
    symbol: Symbol('x'), hidden: { toJSON() {} }, date: new Date(0), then: { then(done) { done([]); } },
  };
  export function handler({ kind }) { return values[kind]; }`);
  const expected = {
    undefined: 'undefined', null: 'null', number: 'a number', nan: 'null', array: 'an array', string: 'a string',
    boolean: 'a boolean', function: 'a function', symbol: 'a symbol', hidden: 'an object that JSON leaves out',
    date: 'a string', then: 'an array',
  };
  for (const [kind, name] of Object.entries(expected)) {
    const frame = await sandbox.run({ kind });
    assert.equal(frame.kind, 'e', kind);
    assert.deepEqual(frame.body, { retire: false, code: 'invalid_output', message: `handler returned ${name}, not an object`, stack: null });
  }
});

test('what JSON cannot hold is invalid, and says why', async (t) => {
  const sandbox = await loaded(t, `const ring = {}; ring.ring = ring;
    const values = { bigint: { ok: true, data: 1n }, ring: { ok: true, data: ring },
      getter: { get ok() { throw new TypeError('read'); } }, toJSON: { ok: true, toJSON() { throw null; } } };
    let deep = {}; for (let n = 0; n < 1e5; n++) deep = [deep]; values.deep = { ok: true, data: deep };
    export const handler = ({ kind }) => values[kind];`);
  const expected = { bigint: /BigInt/, ring: /circular/, getter: /read/, toJSON: /null/, deep: /call stack/ };
  for (const [kind, message] of Object.entries(expected)) {
    const frame = await sandbox.run({ kind });
    assert.equal(frame.body.code, 'invalid_output', kind);
    assert.match(frame.body.message, message);
  }
});

test('getters are read once and what they print is this run\'s', async (t) => {
  const sandbox = await loaded(t, `export function handler() {
    let reads = 0;
    return { get ok() { reads++; console.log('read %d', reads); return reads === 1 ? true : 'forged'; }, data: 1 };
  }`);
  const frame = await sandbox.run({}, { id: 'exec-getter' });
  assert.equal(frame.text, '{"ok":true,"data":1}');
  assert.deepEqual(sandbox.messages('exec-getter'), ['read 1']);
});

test('a proxy is serialised, or invalid, but harmless', async (t) => {
  const sandbox = await loaded(t, `export function handler({ kind }) {
    if (kind === 'good') return new Proxy({ ok: true }, {});
    if (kind === 'traps') return new Proxy({}, { get() { throw new Error('trap'); }, ownKeys() { throw new Error('trap'); } });
    const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return { ok: true, data: proxy };
  }`);
  assert.equal((await sandbox.run({ kind: 'good' })).text, '{"ok":true}');
  assert.equal((await sandbox.run({ kind: 'traps' })).body.code, 'handler_error');
  assert.equal((await sandbox.run({ kind: 'revoked' })).body.code, 'invalid_output');
  assert.equal((await sandbox.run({ kind: 'good' })).text, '{"ok":true}');
});

test('lone surrogates become U+FFFD, backslashes stay', async (t) => {
  const sandbox = await loaded(t, handling(`return { ok: true, data: ['\\ud800', 'a\\udfffb', '\\ud83d\\ude00', '\\\\ud800', '\\\\\\ud800', '\\u2028'], ['\\udc00key']: 1 };`));
  const { body } = await sandbox.run();
  assert.deepEqual(body.data, ['\ufffd', 'a\ufffdb', '😀', '\\ud800', '\\\ufffd', '\u2028']);
  assert.equal(body['\ufffdkey'], 1);
});

test('whatever is thrown is a handler error with a message', async (t) => {
  const sandbox = await loaded(t, `export function handler({ kind }) {
    switch (kind) {
      case 'null': throw null;
      case 'string': throw 'text';
      case 'symbol': throw Symbol('s');
      case 'object': throw { reason: 1 };
      case 'getter': { const error = new Error('x'); Object.defineProperty(error, 'message', { get() { throw new Error('inner'); } }); throw error; }
      case 'stack': { const error = new Error('x'); Object.defineProperty(error, 'stack', { get() { throw 1; } }); throw error; }
      case 'types': { const error = new Error('x'); error.message = {}; error.stack = 5; throw error; }
      case 'proxy': throw new Proxy({}, { get() { throw new Error('trap'); }, getPrototypeOf() { throw 1; }, ownKeys() { throw 1; } });
      case 'function': throw function named() {};
      case 'bare': throw Object.create(null);
      case 'empty': throw new TypeError();
      case 'ring': { const error = new Error('x'); error.cause = error; throw error; }
      case 'huge': throw new Error('x'.repeat(1e6));
      case 'lone': throw new Error('\\ud800');
      case 'extends': throw new (class Mine extends Error { name = 'Mine'; })('mine');
    }
  }`);
  const expected = {
    null: 'null', string: 'text', symbol: 'Symbol(s)', object: '{ reason: 1 }', getter: 'Error', stack: 'x', types: 'Error',
    proxy: /./, function: 'named', bare: '[Object: null prototype] {}', empty: 'TypeError', ring: 'x', huge: 'x'.repeat(8192), lone: '\ufffd',
    extends: 'mine',
  };
  for (const [kind, message] of Object.entries(expected)) {
    const frame = await sandbox.run({ kind });
    assert.equal(frame.body.code, 'handler_error', kind);
    assert.equal(frame.body.retire, false);
    if (message instanceof RegExp) assert.match(frame.body.message, message);
    else assert.equal(frame.body.message, message, kind);
    assert.ok(frame.body.stack === null || frame.body.stack.length <= 16384);
  }
});

test('stacks show frames of the user and of nobody else, causes appended', async (t) => {
  const sandbox = await loaded(t, `import { setTimeout as sleep } from 'node:timers/promises';
async function inner() {
  await sleep(1);
  JSON.parse('{');
}
export async function handler() {
  try {
    await inner();
  } catch (cause) {
    throw new Error('outer', { cause });
  }
}`);
  const { body } = await sandbox.run();
  assert.equal(body.message, 'outer');
  const lines = body.stack.split('\n');
  assert.equal(lines[0], 'Error: outer');
  assert.equal(lines[1], '    at handler (greet.mjs:10:11)');
  assert.match(lines[2], /^Caused by: SyntaxError: /);
  assert.deepEqual(lines.slice(3), ['    at JSON.parse (<anonymous>)', '    at inner (greet.mjs:4:8)', '    at async handler (greet.mjs:8:5)']);
});

test('tampering with stacks cannot break the answer', async (t) => {
  for (const line of ["Error.prepareStackTrace = () => { throw new Error('p'); };", 'Error.prepareStackTrace = () => ({});', 'Error.stackTraceLimit = 0;', "Error.prepareStackTrace = (e, frames) => frames.map((f) => String(f.getThis()) + f.getFunction()).join();"]) {
    const sandbox = await loaded(t, `${line} export function handler() { throw new Error('still told'); }`);
    const frame = await sandbox.run();
    assert.equal(frame.body.code, 'handler_error', line);
    assert.equal(frame.body.message, 'still told');
  }
});

test('the signal fires shortly before the deadline', async (t) => {
  const sandbox = await loaded(t, handling(`
    const { signal } = context;
    if (signal !== context.signal || signal.aborted) throw new Error('not one signal');
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    return { ok: true, data: { left: context.deadline - Date.now(), name: signal.reason.name } };`));
  const { body } = await sandbox.run({}, { timeout: 400 });
  assert.equal(body.data.name, 'TimeoutError');
  // It fires 40 ms before the end; a loaded machine may wake us later, never earlier than asked.
  assert.ok(body.data.left <= 41, String(body.data.left));
});

test('a signal of a run that is over does not fire', async (t) => {
  const sandbox = await loaded(t, `let seen; let early;
    export async function handler({ first }, context) {
      if (first === 1) { seen = context.signal; return { ok: true }; }
      if (first === 2) { early = context; return { ok: true }; }
      const asked = early.signal; // for the first time, and after its deadline
      await new Promise((resolve) => setTimeout(resolve, 120));
      return { ok: true, data: [seen.aborted, asked.aborted] };
    }`);
  await sandbox.run({ first: 1 }, { timeout: 100 });
  await sandbox.run({ first: 2 }, { timeout: 100 });
  assert.deepEqual((await sandbox.run({})).body.data, [false, false]);
});

test('5 MB in, 5 MB out, over a socket and over pipes', async (t) => {
  const text = 'ä€😀"\\'.repeat(400_000);
  for (const stdio of ['socket', 'pipes']) {
    const sandbox = await loaded(t, handling('return { ok: true, data: input.text };'), { stdio });
    const { body } = await sandbox.run({ text });
    assert.equal(body.data, text);
    for (const size of [65_400, 65_500, 65_515, 65_536, 21_838]) {
      assert.equal((await sandbox.run({ text: 'x'.repeat(size) })).body.data.length, size);
    }
  }
});

test('frames that come in pieces, and several at once', async (t) => {
  const sandbox = await started(t);
  sandbox.load(handling('return { ok: true, data: input.n };'));
  const answers = [1, 2, 3].map((n) => sandbox.run({ n }));
  assert.deepEqual((await Promise.all(answers)).map((frame) => frame.body.data ?? frame.body.ok), [1, 2, 3]);
});

test('a frame with another token ends the process', async (t) => {
  const sandbox = await loaded(t, handling('return { ok: true };'));
  sandbox.token = Buffer.alloc(16, 7);
  const end = await sandbox.run();
  assert.equal(end.kind, 'end');
  assert.equal(end.code, 70);
});

test('the end of the stream ends the process, also after a run with timers left', async (t) => {
  const sandbox = await loaded(t, handling('setInterval(() => {}, 1000); return { ok: true };'));
  assert.equal((await sandbox.run()).kind, 'd');
  assert.equal((await sandbox.hangUp()).code, 0);
});
