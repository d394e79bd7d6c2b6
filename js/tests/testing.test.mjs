// The helper for tests of handlers: every way a run can end is told as the service tells it.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { invoke } from '../testing/invoke.mjs';

const folder = mkdtempSync(join(tmpdir(), 'lowcode-faas-handlers-'));
after(() => rmSync(folder, { recursive: true }));

function file(name, source) {
  const path = join(folder, name);
  writeFileSync(path, source);
  return path;
}

const GREET = "export const handler = (input) => ({ ok: true, data: `${process.env.GREETING} ${input.name}` });";

test('a handler gets input, env and context, and what it prints is kept in order', async () => {
  const path = file(
    'greet.mjs',
    `console.log('loaded');
     export async function handler(input, context) {
       console.warn('for %s', input.name); process.stdout.write('a line\\n');
       await new Promise((resolve) => setTimeout(resolve, 20));
       return { ok: true, data: { env: { ...process.env }, context, signal: context.signal.aborted } };
     }`,
  );
  const result = await invoke(path, { name: 'you' }, { env: { GREETING: 'ahoy' }, timeoutMs: 5000, version: 3, collectionPath: 'org/team' });
  assert.equal(result.status, 'succeeded');
  assert.equal(result.error, null);
  assert.deepEqual(result.output, { ok: true, data: result.data });
  assert.deepEqual(result.data.env, { GREETING: 'ahoy' });
  const { executionId, runId, functionName, collectionPath, version, deadline } = result.data.context;
  assert.deepEqual([functionName, collectionPath, version], ['greet', 'org/team', 3]);
  assert.equal(executionId, result.executionId);
  assert.equal(runId, executionId);
  assert.ok(deadline > Date.now() && deadline < Date.now() + 5000);
  assert.deepEqual(
    result.logs.map(({ level, stream, message }) => [level, stream, message]),
    [['info', 'stdout', 'loaded'], ['warn', 'stderr', 'for you'], ['info', 'stdout', 'a line']],
  );
  assert.ok(Math.abs(Date.now() - Date.parse(result.logs[0].ts)) < 60_000);
  assert.ok(result.duration >= 20 && result.duration < 5000);
});

const TYPED = 'type Input = { n: number };\nexport const handler = (input: Input) => ({ ok: true, data: input.n * 2 });';
for (const [name, source] of [['a.mjs', GREET], ['b.js', GREET], ['c.mts', TYPED], ['d.ts', TYPED]]) {
  test(`${name} runs, by path and by URL`, async () => {
    const path = file(name, source);
    for (const place of [path, pathToFileURL(path), pathToFileURL(path).href]) {
      const result = await invoke(place, { name: 'x', n: 21 }, { env: { GREETING: 'hi' } });
      assert.equal(result.data, source === TYPED ? 42 : 'hi x');
    }
  });
}

/** Source of the module, or of its handler's body; status; code; phase; options. */
const ENDS = {
  'says no': ["return { ok: false, error: 'sold out', code: 'none_left' };", 'failed', null, null],
  throws: ["throw new TypeError('no such thing');", 'handler_error', 'handler_error', 'run'],
  'rejects late': ["Promise.reject(new Error('late')); return { ok: true };", 'handler_error', 'handler_error', 'run'],
  'returns a number': ['return 7;', 'invalid_output', 'invalid_output', 'run'],
  'has no ok': ['return { data: 1 };', 'invalid_output', 'invalid_output', 'run'],
  'has an error that is no text': ['return { ok: false, error: 7 };', 'invalid_output', 'invalid_output', 'run'],
  'returns what JSON cannot hold': ['return { ok: true, data: 1n };', 'invalid_output', 'invalid_output', 'run'],
  'returns too much': ["return { ok: true, data: 'x'.repeat(2000) };", 'output_too_large', 'output_too_large', 'run', { outputBytes: 1000 }],
  'spins for ever': ['for (;;);', 'timeout', 'timeout', 'run', { timeoutMs: 300 }],
  'waits for ever': ['return new Promise(() => setInterval(() => {}, 1000));', 'timeout', 'timeout', 'run', { timeoutMs: 300 }],
  'waits for nothing': ['return new Promise(() => {});', 'crashed', 'never_settled', 'run'],
  exits: ['process.exit(3);', 'crashed', 'exited', 'run'],
  'kills itself': ["process.kill(process.pid, 'SIGKILL'); for (;;);", 'crashed', 'killed', 'run'],
  'fills its heap': ['const all = []; for (;;) all.push(new Array(1e5).fill({}));', 'out_of_memory', 'out_of_memory', 'run', { memoryMb: 64 }],
  'does not parse': [{ module: 'export const handler = (' }, 'invalid_handler', 'syntax_error', 'load'],
  'throws while it loads': [{ module: "throw new Error('no'); export const handler = 1;" }, 'invalid_handler', 'load_error', 'load'],
  'imports what is not there': [{ module: "import './beside.mjs'; export const handler = () => ({ ok: true });" }, 'invalid_handler', 'load_error', 'load'],
  'exports no handler': [{ module: 'export default () => ({ ok: true });' }, 'invalid_handler', 'no_handler', 'load'],
  'loads for ever': [{ module: 'for (;;); export const handler = 1;' }, 'timeout', 'timeout', 'load', { timeoutMs: 300 }],
};
for (const [index, [what, [source, status, code, phase, options]]] of Object.entries(ENDS).entries()) {
  test(`a handler that ${what} is ${status}`, async () => {
    const path = file(`end${index}.mjs`, source.module ?? `export async function handler() {\n${source}\n}`);
    const begun = performance.now();
    const result = await invoke(path, {}, options);
    assert.equal(result.status, status, JSON.stringify(result));
    assert.deepEqual([result.error?.code ?? null, result.error?.phase ?? null], [code, phase]);
    assert.equal(result.data, undefined);
    if (status === 'failed') assert.deepEqual(result.output, { ok: false, error: 'sold out', code: 'none_left' });
    else assert.equal(result.output, null);
    if (what === 'throws') assert.match(result.error.stack, /^TypeError: no such thing\n.*end1\.mjs:2:7/);
    if (options?.timeoutMs) {
      assert.ok(result.duration >= options.timeoutMs - 1);
      assert.ok(performance.now() - begun < 10_000);
    }
  });
}

const REFUSED = {
  'a list as input': [[1], {}, /input must be a JSON object/],
  'a timeout above the maximum': [{}, { timeoutMs: 900_001 }, /timeoutMs must be a whole number from 1 to 900000/],
  'a timeout of nothing': [{}, { timeoutMs: 0 }, /timeoutMs/],
  'env that runs code': [{}, { env: { NODE_OPTIONS: '--version' } }, /NODE_OPTIONS is reserved/],
  'env of the platform': [{}, { env: { LOWCODE_FAAS_TOKEN: 'x' } }, /LOWCODE_FAAS_TOKEN is reserved/],
  'env that is no text': [{}, { env: { A: 1 } }, /A must be a string/],
  'a name that is none': [{}, { env: { 'A-B': '1' } }, /"A-B" is no name/],
  'an option that is none': [{}, { timeout: 5 }, /timeout is no option; they are env, timeoutMs/],
  'a path that is none': [{}, { collectionPath: '../up' }, /collectionPath/],
};
for (const [what, [input, options, message]] of Object.entries(REFUSED)) {
  test(`${what} is refused before anything runs`, async () => {
    await assert.rejects(invoke(file('greet.mjs', GREET), input, options), { message });
  });
}

test('what is no source is refused', async () => {
  await assert.rejects(invoke(file('notes.txt', GREET)), /ends in \.mjs, \.js, \.mts, \.ts/);
  await assert.rejects(invoke(file('empty.mjs', ' \n')), /may not be empty/);
  await assert.rejects(invoke(join(folder, 'none.mjs')), { code: 'ENOENT' });
});

test('a test that is killed takes its handler along', async (t) => {
  const path = file('spin.mjs', 'export function handler() { console.log(process.pid); for (;;); }');
  const helper = pathToFileURL(fileURLToPath(new URL('../testing/invoke.mjs', import.meta.url))).href;
  const script = `import { invoke } from '${helper}'; console.log('begun'); await invoke('${path}', {}, { timeoutMs: 60000 });`;
  const runner = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => runner.kill('SIGKILL'));
  await new Promise((resolve) => runner.stdout.once('data', resolve));
  const child = await until(() => spinning(runner.pid));
  runner.kill('SIGKILL');
  await until(() => !lives(child));
});

async function until(condition) {
  for (let wait = 0; wait < 1000; wait++) {
    const found = condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`not within 10 s: ${condition}`);
}

function stat(pid) {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  } catch {
    return undefined; // gone
  }
}

function lives(pid) {
  const fields = stat(pid);
  return fields !== undefined && fields[0] !== 'Z';
}

/** The child of a process that has used CPU for a tenth of a second: its handler runs. */
function spinning(parent) {
  for (const pid of readdirSync('/proc')) {
    const fields = /^\d+$/.test(pid) ? stat(pid) : undefined;
    if (fields?.[1] === String(parent) && Number(fields[11]) > 30) return pid;
  }
}
