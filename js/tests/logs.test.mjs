import assert from 'node:assert/strict';
import test from 'node:test';

import { loaded } from './sandbox.mjs';

const handling = (body) => `export async function handler(input, context) { ${body}; return { ok: true }; }`;

async function printed(t, body, options) {
  const sandbox = await loaded(t, handling(body), options);
  const frame = await sandbox.run();
  assert.equal(frame.kind, 'd', frame.text);
  return sandbox.logs.map(({ l, s, m }) => [l, s, m]);
}

test('levels and streams of console.*', async (t) => {
  const logs = await printed(t, `
    console.log('log %s %d', 'a', 1, { b: 2 }); console.info('info'); console.debug('debug'); console.warn('warn'); console.error('error');
    console.dir({ a: 1 }); console.table([[1]]); console.assert(true, 'no'); console.assert(false, 'yes %s', 1);
    console.count(); console.group('group'); console.log('inside\\nlines'); console.groupEnd(); console.log();
    console.time('t'); console.timeEnd('t')`);
  assert.deepEqual(logs.slice(0, -1), [
    ['info', 'stdout', 'log a 1 { b: 2 }'],
    ['info', 'stdout', 'info'],
    ['debug', 'stdout', 'debug'],
    ['warn', 'stderr', 'warn'],
    ['error', 'stderr', 'error'],
    ['info', 'stdout', '{ a: 1 }'],
    ['info', 'stdout', logs[6][2]],
    ['warn', 'stderr', 'Assertion failed: yes 1'],
    ['info', 'stdout', 'default: 1'],
    ['info', 'stdout', 'group'],
    ['info', 'stdout', '  inside\n  lines'],
    ['info', 'stdout', ''],
  ]);
  assert.match(logs[6][2], /┌─+┬/);
  assert.match(logs.at(-1)[2], /^t: [\d.]+ms$/);
});

test('console.trace shows lines of the user only', async (t) => {
  const [[level, stream, message]] = await printed(t, "console.trace('here %d', 1)");
  assert.deepEqual([level, stream], ['warn', 'stderr']);
  assert.match(message, /^Trace: here 1\n    at handler \(greet\.mjs:1:\d+\)$/);
});

test('the console of node:console is the same one', async (t) => {
  const sandbox = await loaded(t, `import console2, { log } from 'node:console'; export function handler() { console2.log('a'); log('b'); return { ok: true }; }`);
  await sandbox.run({}, { id: 'exec-0009' });
  assert.deepEqual(sandbox.messages('exec-0009'), ['a', 'b']);
});

test('times are nanoseconds of the wall clock and never go back', async (t) => {
  const sandbox = await loaded(t, handling("console.log('a'); console.log('b')"));
  const before = BigInt(Date.now()) * 1_000_000n;
  await sandbox.run();
  const after = BigInt(Date.now()) * 1_000_000n;
  const [a, b] = sandbox.logs.map((log) => BigInt(log.t));
  assert.ok(a <= b);
  assert.ok(a > before - 60_000_000n && b < after + 60_000_000n);
});

test('what is written to the streams is cut into lines', async (t) => {
  const logs = await printed(t, `
    process.stdout.write('a\\nb\\r\\n\\nc'); process.stdout.write('d\\n'); process.stderr.write('bad\\nhalf');
    process.stdout.write(Buffer.from('656e640a', 'hex')); process.stdout.write('666f6f0a', 'hex');
    process.stdout.write(new Uint8Array([104, 105, 10]))`);
  assert.deepEqual(logs, [
    ['info', 'stdout', 'a'],
    ['info', 'stdout', 'b'],
    ['info', 'stdout', ''],
    ['info', 'stdout', 'cd'],
    ['error', 'stderr', 'bad'],
    ['info', 'stdout', 'end'],
    ['info', 'stdout', 'foo'],
    ['info', 'stdout', 'hi'],
    ['error', 'stderr', 'half'],
  ]);
});

test('stdout_half_frame: half lines come out at the end of their run, in order', async (t) => {
  const sandbox = await loaded(t, handling("process.stdout.write('half ' + input.n); if (input.n === 1) console.log('whole')"));
  await sandbox.run({ n: 1 }, { id: 'exec-0001' });
  await sandbox.run({ n: 2 }, { id: 'exec-0002' });
  assert.deepEqual(sandbox.logs.map(({ x, m }) => [x, m]), [['exec-0001', 'half 1'], ['exec-0001', 'whole'], ['exec-0002', 'half 2']]);
});

test('half lines of two executions are not joined', async (t) => {
  const sandbox = await loaded(t, `export async function handler({ first }) {
    if (first) { setTimeout(() => process.stdout.write('late half'), 2); return { ok: true }; }
    process.stdout.write('my half');
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.stdout.write('my rest\\n');
    return { ok: true };
  }`);
  await sandbox.run({ first: true }, { id: 'exec-0001' });
  await sandbox.run({}, { id: 'exec-0002' });
  assert.deepEqual(sandbox.logs.map(({ x, m }) => [x, m]), [['exec-0002', 'my half'], ['exec-0001', 'late half'], ['exec-0002', 'my rest']]);
});

test('a character split over writes is put together, one cut by the end of the run is not carried over', async (t) => {
  const sandbox = await loaded(t, handling(`const bytes = Buffer.from('é😀\\n');
    for (const byte of bytes.subarray(0, input.bytes)) process.stdout.write(Buffer.from([byte]))`));
  await sandbox.run({ bytes: 7 });
  await sandbox.run({ bytes: 4 });
  await sandbox.run({ bytes: 7 });
  assert.deepEqual(sandbox.messages(), ['é😀', 'é\ufffd', 'é😀']);
});

test('huge_line: a long message and a line without an end are one frame each, cut', async (t) => {
  const sandbox = await loaded(t, handling(`
    if (input.line) for (let n = 0; n < 40; n++) process.stdout.write('x'.repeat(1e5));
    else console.log(('😀' + 'x'.repeat(1e5 - 1)).repeat(30));
    process.stdout.write('rest\\nnext\\n');`));
  for (const line of [true, false]) {
    sandbox.logs.length = 0;
    await sandbox.run({ line });
    const [first, ...others] = sandbox.messages();
    assert.deepEqual(others, line ? ['next'] : ['rest', 'next']);
    const whole = line ? 'x'.repeat(4e6) : ('😀' + 'x'.repeat(1e5 - 1)).repeat(30);
    assert.ok(whole.startsWith(first) && first.length > 1_000_000 && first.length < 1.2e6, String(first.length));
  }
});

test('a line that was cut ends with its run', async (t) => {
  const sandbox = await loaded(t, handling("process.stdout.write(input.first ? 'x'.repeat(2e6) : 'own\\n')"));
  await sandbox.run({ first: true });
  await sandbox.run({});
  assert.deepEqual(sandbox.messages().map((message) => message.length), [1 << 20, 3]);
});

test('a long message is not cut within a character', async (t) => {
  const sandbox = await loaded(t, handling("console.log('x' + '😀'.repeat(1e6))"));
  await sandbox.run();
  assert.equal(sandbox.logs.length, 1);
  assert.ok(sandbox.messages()[0].isWellFormed() && sandbox.messages()[0].length === (1 << 20) - 1);
});

test('lone surrogates, NUL and line separators in messages', async (t) => {
  const logs = await printed(t, "console.log('\\ud800|\\u0000|\\u2028|\\x1b[2J'); process.stdout.write('\\udc00\\n')");
  assert.deepEqual(logs.map(([, , m]) => m), ['\ufffd|\0|\u2028|\x1b[2J', '\ufffd']);
});

test('log frames all come before the result', async (t) => {
  const sandbox = await loaded(t, handling("for (let n = 0; n < 500; n++) console.log(n)"));
  await sandbox.run();
  assert.equal(sandbox.logs.length, 500);
});

test('console goes on when user code replaces it, and streams cannot be closed for later runs', async (t) => {
  const sandbox = await loaded(t, `const { log } = console; console.log = (...values) => log('mine', ...values);
    export function handler() { console.log('x'); console.error('y'); process.stdout.destroy(); process.stdout.write('z\\n'); return { ok: true }; }`);
  await sandbox.run();
  await sandbox.run();
  assert.deepEqual(sandbox.messages(), ['mine x', 'y', 'z', 'mine x', 'y', 'z']);
});

test('values that fight inspection', async (t) => {
  const logs = await printed(t, `const { inspect } = await import('node:util');
    console.log(new Proxy({}, { get() { throw 1; }, ownKeys() { throw 1; } }));
    console.warn({ [inspect.custom]() { console.log('inner'); return 'outer'; } });
    const deep = {}; deep.deep = deep; console.log(deep)`);
  assert.deepEqual(logs, [
    ['info', 'stdout', '{}'],
    ['info', 'stdout', 'inner'],
    ['warn', 'stderr', 'outer'],
    ['info', 'stdout', '<ref *1> { deep: [Circular *1] }'],
  ]);
});

test('raw writes to the descriptors are left alone', async (t) => {
  const sandbox = await loaded(t, `import { writeSync } from 'node:fs'; ${handling("writeSync(1, 'raw'); writeSync(2, 'error')")}`);
  await sandbox.run();
  assert.deepEqual(sandbox.logs, []);
  await sandbox.hangUp();
  assert.equal(sandbox.stdout, 'raw');
  assert.equal(sandbox.stderr, 'error');
});

test('stdin is empty and is not the channel', async (t) => {
  const sandbox = await loaded(t, handling("for await (const chunk of process.stdin) throw new Error('read ' + chunk)"), { stdio: 'pipes' });
  assert.equal((await sandbox.run()).kind, 'd');
  assert.equal((await sandbox.run()).kind, 'd');
});

test('worker threads print through the sandbox', async (t) => {
  const logs = await printed(t, `const { Worker } = await import('node:worker_threads');
    const worker = new Worker("console.log('from a worker', process.argv.length)", { eval: true });
    await new Promise((resolve) => worker.stdout.on('end', resolve))`);
  assert.deepEqual(logs, [['info', 'stdout', 'from a worker 2']]);
});
