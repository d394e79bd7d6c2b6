import assert from 'node:assert/strict';
import test from 'node:test';

import { loaded, started } from './sandbox.mjs';

const RESULT = '{ ok: true, data: { n: 1, list: [1, 2] } }';

test('steal_channel: the token is nowhere to be found', async (t) => {
  const source = `import { createRequire } from 'node:module';
    import v8 from 'node:v8';
    import { readFileSync } from 'node:fs';
    const require = createRequire(import.meta.url);
    const seen = new Set(); const buffers = []; const strings = [];
    function walk(thing, depth) {
      if (typeof thing === 'string') { strings.push(thing); return; }
      if ((typeof thing !== 'object' && typeof thing !== 'function') || thing === null || seen.has(thing) || depth > 9) return;
      seen.add(thing);
      if (ArrayBuffer.isView(thing)) buffers.push(Buffer.from(thing.buffer));
      if (thing instanceof Map || thing instanceof Set) for (const entry of thing) walk(entry, depth + 1);
      try { walk(Object.getPrototypeOf(thing), depth + 1); } catch {}
      for (const key of Reflect.ownKeys(thing)) {
        let found; try { found = Object.getOwnPropertyDescriptor(thing, key); } catch { continue; }
        if (!found) continue;
        if ('value' in found) walk(found.value, depth + 1);
        else { walk(found.get, depth + 1); try { const got = thing[key]; if (got instanceof Promise) got.catch(() => {}); walk(got, depth + 1); } catch {} }
      }
    }
    let caller = null; let frames = [];
    export const handler = new Function('input', 'context', 'return this_(input, context, arguments.callee)');
    globalThis.this_ = (input, context, callee) => {
      try { caller = callee.caller; } catch {}
      Error.prepareStackTrace = (_, sites) => sites.map((site) => [site.getThis(), site.getFunction()]);
      frames = new Error().stack; delete Error.prepareStackTrace;
      buffers.length = strings.length = 0; seen.clear();
      for (const root of [globalThis, process, require, require.cache, require.main, module_(), context, frames, caller]) walk(root, 0);
      buffers.push(Buffer.from(Buffer.from('pooled').buffer));
      const token = Buffer.alloc(16).fill(input.token, 'hex');
      const spellings = ['hex', 'latin1', 'utf8', 'base64'].map((name) => token.toString(name));
      return { ok: true, data: {
        walked: seen.size,
        caller: caller === null || caller === undefined,
        inBuffers: buffers.some((bytes) => bytes.includes(token)),
        inStrings: strings.some((text) => text !== input.token && spellings.some((spelling) => text.includes(spelling))),
        cmdline: ['/proc/self/cmdline', '/proc/self/environ'].some((file) => readFileSync(file).includes(token)),
      } };
    };
    function module_() { const { Module } = require('node:module'); return Module._cache; }`;
  const sandbox = await loaded(t, source);
  const { body } = await sandbox.run({ token: sandbox.token.toString('hex') });
  assert.ok(body.data?.walked > 1000, JSON.stringify(body));
  assert.deepEqual({ ...body.data, walked: 0 }, { walked: 0, caller: true, inBuffers: false, inStrings: false, cmdline: false });
});

test('steal_channel: no constructor of user code is asked to cut a buffer', async (t) => {
  const source = `export function handler() {
      Buffer.prototype.constructor = { [Symbol.species]: function (buffer, offset, length) {
        globalThis.stolen = true; return new Uint8Array(buffer, offset, length); } };
      return { ok: true, data: globalThis.stolen ?? false };
    }`;
  const sandbox = await loaded(t, source);
  for (const input of ['small', 'x'.repeat(70_000), 'y'.repeat(200_000), 'small']) {
    const { body } = await sandbox.run(input);
    assert.deepEqual(body, { ok: true, data: false });
  }
});

test('steal_channel: a getter on the buffers it writes sees none of them', async (t) => {
  const source = `const prototype = Object.getPrototypeOf(Uint8Array.prototype); const seen = [];
    for (const name of ['byteLength', 'length', 'buffer', 'byteOffset']) {
      const { get } = Object.getOwnPropertyDescriptor(prototype, name);
      Object.defineProperty(prototype, name, { configurable: true, get() { const found = get.call(this); if (found > 60000 || this[16] !== undefined) seen.push(this); return found; } });
    }
    export function handler() { return { ok: true, data: seen.filter((bytes) => bytes[16] === 100 || bytes[16] === 82).length }; }`;
  const sandbox = await loaded(t, source);
  for (let n = 0; n < 3; n++) assert.equal((await sandbox.run()).text, '{"ok":true,"data":0}');
});

test('steal_channel: bytes written to the channel are garbage, a closed one is the end', async (t) => {
  const forged = await loaded(t, `import { writeSync } from 'node:fs';
    export function handler() { writeSync(3, Buffer.concat([Buffer.alloc(16), Buffer.from('d\\0\\0\\0\\x0b{"ok":true}')])); return { ok: true }; }`);
  assert.equal((await forged.run()).kind, 'garbage');
  const closed = await loaded(t, "import { closeSync } from 'node:fs'; export function handler() { closeSync(3); return { ok: true }; }");
  const end = await closed.run();
  assert.equal(end.kind, 'end');
  assert.equal(end.code, 70);
});

test('steal_channel: a channel made non-blocking still works', async (t) => {
  const sandbox = await loaded(t, `import net from 'node:net';
    export function handler() { new net.Socket({ fd: 3, readable: false, manualStart: true }); return { ok: true, data: 'x'.repeat(3e6) }; }`);
  const { body } = await sandbox.run();
  assert.equal(body.data.length, 3e6);
  assert.equal((await sandbox.run()).kind, 'd');
});

test('redefine_process and every intrinsic', async (t) => {
  const tampering = {
    json: "JSON.stringify = () => '{\"ok\":true}'; JSON.parse = () => ({});",
    fs: "import fs from 'node:fs'; import { syncBuiltinESMExports } from 'node:module'; for (const name of Object.keys(fs)) try { fs[name] = () => { throw new Error('fs'); }; } catch {} syncBuiltinESMExports();",
    strings: "for (const name of Object.getOwnPropertyNames(String.prototype)) if (name !== 'constructor' && typeof String.prototype[name] === 'function') String.prototype[name] = () => { throw new Error('string'); };",
    arrays: "for (const name of [...Object.getOwnPropertyNames(Array.prototype), Symbol.iterator]) if (name !== 'constructor' && typeof Array.prototype[name] === 'function') Array.prototype[name] = () => { throw new Error('array'); };",
    buffers: "const typed = Object.getPrototypeOf(Uint8Array.prototype); for (const target of [Buffer.prototype, typed, Uint8Array.prototype]) for (const name of Object.getOwnPropertyNames(target)) { const d = Object.getOwnPropertyDescriptor(target, name); if (name !== 'constructor' && typeof d.value === 'function') target[name] = () => { throw new Error('buffer'); }; }",
    statics: "Buffer.from = Buffer.alloc = Buffer.allocUnsafe = Buffer.allocUnsafeSlow = Buffer.byteLength = () => { throw new Error('static'); }; TextEncoder.prototype.encode = TextEncoder.prototype.encodeInto = () => ({ written: 3 });",
    promises: "Promise.prototype.then = Promise.prototype.catch = Promise.prototype.finally = () => { throw new Error('promise'); }; globalThis.Promise = class {};",
    species: "Object.defineProperty(Promise, Symbol.species, { get() { throw new Error('species'); } });",
    functions: "Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => { throw new Error('function'); }; Reflect.apply = () => { throw new Error('reflect'); };",
    globals: "for (const name of ['Object', 'Atomics', 'BigInt', 'Date', 'String', 'Error', 'Buffer', 'AbortController', 'setTimeout', 'clearTimeout', 'Int32Array', 'Uint8Array']) globalThis[name] = undefined;",
    process: "for (const name of Object.getOwnPropertyNames(process)) try { process[name] = () => { throw new Error('process'); }; } catch {}",
    gone: 'globalThis.process = undefined; globalThis.console = undefined; delete globalThis.globalThis;',
    emitter: "process.emit = () => true; process.on = process.prependListener = () => {}; process._events = null;",
    locked: "Object.defineProperty(process, '_events', { get() { throw new Error('events'); } });",
    setters: "for (const name of ['ok', 'code', 'message', 'stack', 'value', 'get', 'set', 'timer', 'controller', 'done', '0', '1']) Object.defineProperty(Object.prototype, name, { __proto__: null, configurable: true, get() { return undefined; }, set() { throw new Error('setter'); } });",
    pollution: "Object.prototype.get = () => 5; Object.prototype.value = 5; Object.prototype.code = 'EAGAIN'; Object.prototype.then = undefined; Object.prototype.retire = true; Object.prototype.cause = 1;",
    thenable: 'let calls = 0; Object.prototype.then = function (done) { calls++; delete Object.prototype.then; done(this); };',
    errors: "Error.prepareStackTrace = () => { throw new Error('stack'); }; Error.captureStackTrace = undefined; Error.stackTraceLimit = -1;",
    weakmaps: "for (const target of [Map, Set, WeakMap, WeakRef]) for (const name of Object.getOwnPropertyNames(target.prototype)) if (name !== 'constructor') try { target.prototype[name] = () => { throw new Error('map'); }; } catch {}",
    frozen: 'for (const target of [Object.prototype, Array.prototype, Promise.prototype, process, console]) Object.freeze(target);',
  };
  // Before AsyncContextFrame (Node 24) Node's own async hooks use push and pop of arrays: whoever
  // replaces that has broken Node, and may get a timeout for it.
  if (process.versions.node < '24') {
    delete tampering.arrays;
    delete tampering.setters;
  }
  for (const [name, source] of Object.entries(tampering)) {
    const sandbox = await loaded(t, `${source} export async function handler({ fail }) { if (fail) throw { message: 'told' }; return ${RESULT}; }`);
    const first = await sandbox.run();
    assert.equal(first.text, '{"ok":true,"data":{"n":1,"list":[1,2]}}', name);
    const failed = await sandbox.run({ fail: true });
    assert.equal(failed.body.code, 'handler_error', name);
    assert.equal(failed.body.message, 'told', name);
    assert.equal((await sandbox.run()).text, first.text, name);
  }
});

test('a polluted toJSON is the user\'s own output problem', async (t) => {
  const sandbox = await loaded(t, `Object.prototype.toJSON = function () { return 'polluted'; }; String.prototype.toJSON = () => { throw 1; };
    export function handler({ fail }) { if (fail) throw new Error('x'); console.log('a', { b: 1 }); return ${RESULT}; }`);
  assert.equal((await sandbox.run()).body.code, 'invalid_output');
  assert.deepEqual(sandbox.messages(), ['a { b: 1 }']);
  assert.equal((await sandbox.run({ fail: true })).body.message, 'x');
});

test('thenables, species and promises of their own making', async (t) => {
  const sandbox = await loaded(t, `class Mine extends Promise { static get [Symbol.species]() { throw new Error('species'); } }
    export function handler({ kind }) {
      switch (kind) {
        case 'species': return Mine.resolve(${RESULT});
        case 'then': { const promise = Promise.resolve(${RESULT}); promise.then = () => { throw new Error('own then'); }; return promise; }
        case 'constructor': { const promise = Promise.resolve(${RESULT}); Object.defineProperty(promise, 'constructor', { get() { throw new Error('constructor'); } }); return promise; }
        case 'twice': return { then(done, fail) { done(${RESULT}); done(5); fail(new Error('x')); throw new Error('y'); } };
        case 'getter': return { get then() { throw new Error('then getter'); } };
      }
    }`);
  const text = '{"ok":true,"data":{"n":1,"list":[1,2]}}';
  assert.equal((await sandbox.run({ kind: 'species' })).body.message, 'species');
  assert.equal((await sandbox.run({ kind: 'then' })).text, text);
  assert.equal((await sandbox.run({ kind: 'constructor' })).body.message, 'constructor');
  assert.equal((await sandbox.run({ kind: 'twice' })).text, text);
  assert.equal((await sandbox.run({ kind: 'getter' })).body.message, 'then getter');
});

test('the host going away ends the process in the middle of a flood', async (t) => {
  const sandbox = await loaded(t, "export async function handler() { for (;;) { console.log('x'.repeat(1000)); } }");
  sandbox.run();
  while (sandbox.logs.length < 100) await new Promise((resolve) => setImmediate(resolve));
  const end = await sandbox.hangUp();
  assert.equal(end.signal, null);
});

test('children inherit neither the channel nor the token', async (t) => {
  const source = `import { spawnSync } from 'node:child_process'; import { readdirSync, readlinkSync } from 'node:fs';
    const list = "const fs = require('fs'); console.log(JSON.stringify([fs.readdirSync('/proc/self/fd').flatMap((fd) => { try { return [fs.readlinkSync('/proc/self/fd/' + fd)]; } catch { return []; } }), process.execArgv]))";
    export function handler() {
      const child = spawnSync(process.execPath, ['-e', list], { encoding: 'utf8', env: {} });
      return { ok: true, data: { channel: readlinkSync('/proc/self/fd/3'), child: JSON.parse(child.stdout) } };
    }`;
  const sandbox = await loaded(t, source);
  const { data } = (await sandbox.run()).body;
  assert.match(data.channel, /^socket:/);
  assert.ok(!data.child[0].includes(data.channel), JSON.stringify(data));
});

test('garbage instead of a greeting ends the process', async (t) => {
  const sandbox = await started(t);
  sandbox.send('Z', {});
  const end = await sandbox.next();
  assert.equal(end.code, 70);
});
