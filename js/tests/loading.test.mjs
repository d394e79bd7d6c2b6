import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';

import { loaded, started } from './sandbox.mjs';

const OK = '{ return { ok: true, data: null }; }';

async function refused(t, source, options) {
  const sandbox = await started(t, options);
  const frame = await sandbox.load(source, options);
  assert.equal(frame.kind, 'l', frame.text);
  assert.equal(frame.body.ok, false);
  return frame.body;
}

async function output(t, source, input, options) {
  const sandbox = await loaded(t, source, options);
  const frame = await sandbox.run(input);
  assert.equal(frame.kind, 'd', frame.text);
  return frame.body;
}

test('READY names the version and the pid, and no code is there before LOAD', async (t) => {
  const sandbox = await started(t);
  sandbox.hangUp();
  const end = await sandbox.ended;
  assert.equal(end.code, 0);
});

test('a handler gets input and context', async (t) => {
  const sandbox = await loaded(t, 'export const handler = (input, context) => ({ ok: true, data: { input, context } });');
  const { body } = await sandbox.run({ name: 'Ada' }, { id: 'exec-abcd', traceparent: '00-1-2-01' });
  assert.deepEqual(body.data.input, { name: 'Ada' });
  const { context } = body.data;
  assert.equal(context.executionId, 'exec-abcd');
  assert.equal(context.runId, 'run-1');
  assert.equal(context.functionName, 'greet');
  assert.equal(context.collectionPath, 'org/team');
  assert.equal(context.version, 3);
  assert.equal(context.traceparent, '00-1-2-01');
  assert.ok(context.deadline > Date.now());
});

test('top-level await', async (t) => {
  const source = `const { basename } = await import('node:path');
    await new Promise((resolve) => setTimeout(resolve, 5));
    export async function handler() { return { ok: true, data: basename('/a/b') }; }`;
  assert.deepEqual(await output(t, source), { ok: true, data: 'b' });
});

test("an export named 'module.exports' does not hide the handler", async (t) => {
  const source = `const x = { handler: 5 }; export { x as 'module.exports' }; export function handler() ${OK}`;
  assert.deepEqual(await output(t, source), { ok: true, data: null });
});

test('nor does another module exported under that name', async (t) => {
  const source = `import * as x from 'node:path'; export { x as 'module.exports' }; export function handler() ${OK}`;
  assert.deepEqual(await output(t, source), { ok: true, data: null });
});

test("nor does one whose name is written with escapes", async (t) => {
  const source = `const x = 1; export { x as 'module\\u002eexports' }; export function handler() ${OK}`;
  assert.deepEqual(await output(t, source), { ok: true, data: null });
});

test('a default export beside the handler is no trouble', async (t) => {
  assert.deepEqual(await output(t, `export default 1; export function handler() ${OK}`), { ok: true, data: null });
});

test('the module is evaluated once', async (t) => {
  const source = `console.log('evaluated'); await 0; export function handler() ${OK}`;
  const sandbox = await loaded(t, source);
  await sandbox.run();
  assert.deepEqual(sandbox.messages(), ['evaluated']);
});

test('CommonJS source is a load error that says so', async (t) => {
  for (const source of ['module.exports = { handler() {} };', 'exports.handler = () => {};', "const fs = require('fs');"]) {
    const { code, message } = await refused(t, source);
    assert.equal(code, 'load_error');
    assert.match(message, /is not defined in ES module scope/);
  }
});

test('no handler, a default export only, a handler that is no function', async (t) => {
  for (const source of ['', 'export const other = 1;', `export default function handler() ${OK}`]) {
    const { code, message } = await refused(t, source);
    assert.equal(code, 'no_handler');
    assert.match(message, /no export named `handler`/);
  }
  const number = await refused(t, 'export const handler = 5;');
  assert.equal(number.code, 'no_handler');
  assert.match(number.message, /of type number, not a function/);
  assert.match((await refused(t, 'export const handler = null;')).message, /is null/);
});

test('a syntax error says where', async (t) => {
  const error = await refused(t, 'const a = 1;\nexport const handler = () => { let b = ; };\n');
  assert.equal(error.code, 'syntax_error');
  assert.equal(error.message, "Unexpected token ';' (greet.mjs:2:40)");
  assert.match(error.stack, /^greet\.mjs:2:40\n/);
});

test('looking for a syntax error warns nobody of an experimental parser', async (t) => {
  const sandbox = await started(t, { flags: [] });
  assert.equal((await sandbox.check('let let;')).body.ok, false);
  await sandbox.load(`await new Promise((resolve) => setImmediate(resolve)); export function handler() ${OK}`);
  await sandbox.hangUp();
  assert.deepEqual(sandbox.logs, []);
  assert.equal(sandbox.stderr, '');
});

test('an import that has no such export is a syntax error', async (t) => {
  const error = await refused(t, `import { nope } from 'node:fs'; export function handler() ${OK}`);
  assert.equal(error.code, 'syntax_error');
  assert.match(error.message, /does not provide an export named 'nope'/);
});

test('what is thrown while loading is a load error with the line', async (t) => {
  const error = await refused(t, "\nfunction start() {\n  throw new RangeError('no');\n}\nstart();");
  assert.equal(error.code, 'load_error');
  assert.equal(error.message, 'no');
  assert.equal(error.stack, 'RangeError: no\n    at start (greet.mjs:3:9)\n    at greet.mjs:5:1');
});

test('a SyntaxError that user code threw is a load error', async (t) => {
  const error = await refused(t, "export const config = JSON.parse('{');");
  assert.equal(error.code, 'load_error');
  assert.match(error.stack, /at greet\.mjs:1:28/);
});

test('a missing import is a load error that shows no folder of ours', async (t) => {
  const error = await refused(t, `import './missing.mjs'; export function handler() ${OK}`);
  assert.equal(error.code, 'load_error');
  assert.match(error.message, /missing\.mjs/);
  assert.doesNotMatch(JSON.stringify(error), /\/tmp|function-/);
});

test('a rejection nobody handles while loading is a load error', async (t) => {
  const error = await refused(t, `Promise.reject(new Error('early')); export function handler() ${OK}`);
  assert.equal(error.code, 'load_error');
  assert.equal(error.message, 'early');
});

test('throwing nothing while loading is a load error', async (t) => {
  const error = await refused(t, 'throw undefined;');
  assert.equal(error.code, 'load_error');
  assert.equal(error.message, 'undefined');
});

test('a top-level await that never settles is told at once', async (t) => {
  const sandbox = await started(t);
  const frame = await sandbox.load('await new Promise(() => {}); export function handler() {}');
  assert.equal(frame.kind, 'e');
  assert.equal(frame.body.code, 'never_settled');
  assert.equal(frame.body.retire, true);
  assert.match(frame.body.message, /top-level await/);
});

test('process.exit while loading ends the process, with what was printed', async (t) => {
  const sandbox = await started(t);
  const end = await sandbox.load("process.stdout.write('half'); process.exit(7);");
  assert.equal(end.kind, 'end');
  assert.equal(end.code, 7);
  assert.deepEqual(sandbox.messages(), ['half']);
});

test('a module that imports itself', async (t) => {
  const source = `import * as self from './greet.mjs';
    export const name = 'me'; export function handler() { return { ok: true, data: self.name }; }`;
  assert.deepEqual(await output(t, source), { ok: true, data: 'me' });
});

test('an export named then does not stop a module that require() loads', async (t) => {
  const source = `export function then() { throw new Error('never'); } export function handler() ${OK}`;
  assert.deepEqual(await output(t, source), { ok: true, data: null });
});

test('TypeScript runs, and stacks name its lines', async (t) => {
  const source = `interface Input { name: string }

export async function handler(input: Input): Promise<object> {
  if (!input.name) throw new Error('nobody' as string);
  return { ok: true, data: input.name satisfies string };
}`;
  const sandbox = await loaded(t, source, { file: 'greet.mts' });
  assert.deepEqual((await sandbox.run({ name: 'Ada' })).body, { ok: true, data: 'Ada' });
  const { body } = await sandbox.run({});
  assert.equal(body.stack, 'Error: nobody\n    at handler (greet.mts:4:26)');
  assert.equal(sandbox.stderr, '');
});

test('TypeScript with top-level await', async (t) => {
  const source = `const n: number = await Promise.resolve(4); export function handler() { return { ok: true, data: n }; }`;
  assert.deepEqual(await output(t, source, {}, { file: 'greet.mts' }), { ok: true, data: 4 });
});

test('TypeScript that cannot be stripped says what', async (t) => {
  const error = await refused(t, `\nenum Colour { red }\nexport function handler() ${OK}`, { file: 'greet.mts' });
  assert.equal(error.code, 'syntax_error');
  assert.equal(error.message, 'TypeScript enum is not supported in strip-only mode (greet.mts:2:1)');
  const typed = await refused(t, 'const a: = 1;', { file: 'greet.mts' });
  assert.equal(typed.code, 'syntax_error');
  assert.match(typed.message, /greet\.mts:1:10/);
});

test('the environment is exactly the one given, before the module is evaluated', async (t) => {
  const env = { NAME: 'Ada', EMPTY: '', constructor: 'c', ['__proto__']: 'p', TZ: 'Asia/Tokyo' };
  const sandbox = await started(t, { env: { SECRET: 's', PATH: '/bin' } });
  const source = `const early = process.env.NAME;
    export function handler() {
      return { ok: true, data: { early, keys: Object.keys(process.env).sort(), proto: process.env['__proto__'],
        polluted: ({}).polluted, hours: new Date(0).getHours() } };
    }`;
  // An object literal in JSON text: JSON.stringify of ours would leave __proto__ out.
  const frame = await sandbox.load(source, { env: JSON.parse(JSON.stringify(env)) });
  assert.equal(frame.text, '{"ok":true}');
  const { data } = (await sandbox.run()).body;
  assert.deepEqual(data, {
    early: 'Ada',
    keys: ['EMPTY', 'NAME', 'TZ', '__proto__', 'constructor'],
    proto: 'p',
    hours: 9,
  });
});

test('__proto__ in the input is an ordinary key', async (t) => {
  const sandbox = await loaded(t, `export function handler(input) {
    return { ok: true, data: { own: Object.keys(input), polluted: ({}).polluted ?? null } };
  }`);
  const { body } = await sandbox.run(JSON.parse('{"__proto__":{"polluted":true}}'));
  assert.deepEqual(body.data, { own: ['__proto__'], polluted: null });
});

test('the process looks like an ordinary one', async (t) => {
  const { body } = await (await loaded(t, `import { basename } from 'node:path';
    export function handler() {
      return { ok: true, data: { argv: process.argv.map((arg) => basename(arg)), execArgv: process.execArgv, evaluated: process._eval ?? null, url: basename(import.meta.url) } };
    }`)).run();
  assert.deepEqual(body.data, { argv: ['node', 'greet.mjs'], execArgv: [], evaluated: null, url: 'greet.mjs' });
});

test('globals are those of any module, before and after its first await', async (t) => {
  const table = `Object.fromEntries(Object.getOwnPropertyNames(globalThis).map((key) => {
    const { enumerable, configurable, writable, get, set } = Object.getOwnPropertyDescriptor(globalThis, key);
    return [key, [enumerable, configurable, writable, typeof get, typeof set].join()];
  }))`;
  const folder = mkdtempSync(join(tmpdir(), 'lowcode-faas-globals-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'plain.mjs');
  writeFileSync(file, `process.stdout.write(JSON.stringify(${table}))`);
  const plain = spawnSync(process.execPath, [file], { encoding: 'utf8' });
  assert.equal(plain.stderr, '');
  const expected = JSON.parse(plain.stdout);
  const sandbox = await loaded(t, `const early = ${table}; await new Promise((resolve) => setImmediate(resolve));
    export const handler = () => ({ ok: true, data: { early, late: ${table} } });`);
  const { data } = (await sandbox.run()).body;
  const ours = (found) => Object.fromEntries(Object.entries(found).filter(([name]) => expected[name] !== found[name]));
  assert.deepEqual(ours(data.early), {});
  assert.deepEqual(ours(data.late), {});
  assert.deepEqual(Object.keys(expected).filter((name) => !(name in data.late)), []);
});

test('CHECK compiles and never runs', async (t) => {
  const sandbox = await started(t);
  assert.deepEqual((await sandbox.check("console.log('ran'); throw 1; // no newline")).body, { ok: true });
  assert.deepEqual((await sandbox.check("import './absent.mjs'; await x; export {};")).body, { ok: true });
  assert.deepEqual((await sandbox.check('let a: number = 1;', 'greet.mts')).body, { ok: true });
  const wrong = (await sandbox.check('const a = 1;\nlet b = ;')).body;
  assert.deepEqual(wrong, { ok: false, code: 'syntax_error', message: "Unexpected token ';'", line: 2, column: 9 });
  assert.equal((await sandbox.check('enum A { x }', 'greet.mts')).body.line, 1);
  const span = (await sandbox.check('let a = 1;\nenum A {\n  x,\n}\n', 'greet.mts')).body;
  assert.deepEqual([span.line, span.column], [2, null]);
  for (const open of ['`', '/*', 'function f() {', '"']) assert.equal((await sandbox.check(open)).body.ok, false, open);
  assert.deepEqual(sandbox.logs, []);
  assert.equal((await sandbox.load(`export function handler() ${OK}`)).text, '{"ok":true}');
});

test('works under the permission model, within its folder', async (t) => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'lowcode-faas-permission-')));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const options = {
    flags: ['--permission', `--allow-fs-read=${folder}/*`, `--allow-fs-write=${folder}/*`, '--disable-warning=ExperimentalWarning'],
    env: { TMPDIR: folder },
  };
  const source = `import { readFileSync } from 'node:fs'; await 0;
    export function handler() { try { readFileSync('/etc/passwd'); } catch (error) { return { ok: true, data: error.code }; } }`;
  assert.deepEqual(await output(t, source, {}, options), { ok: true, data: 'ERR_ACCESS_DENIED' });
  assert.deepEqual(await output(t, source.replace('await 0;', ''), {}, options), { ok: true, data: 'ERR_ACCESS_DENIED' });
  const error = await refused(t, 'throw new Error("x")', options);
  assert.equal(error.stack, 'Error: x\n    at greet.mjs:1:7');
});
