// Runs one invocation of the files exchange: reads input.json and env.json beside it, calls the
// handler, and leaves its answer in output.json. What user code prints is the container's own log.
//
// User code shares this process and may write output.json itself: the host believes nothing in it
// but the output, and nothing at all when the process did not exit with 0.
import fs from 'node:fs';
import { createRequire, stripTypeScriptTypes } from 'node:module';
import path from 'node:path';
import { inspect, types } from 'node:util';

const LOADED = 'l';
const RESULT = 'd';
const ERROR = 'e';
/** Says that user code is about to be loaded, or to run; an answer takes its place. */
const LOADING = 's';
const RUNNING = 'r';
const TOO_LARGE = 't';
const CANNOT_ANSWER = 70;

// Captured before user code can replace them.
const { parse, stringify } = JSON;
const { ftruncateSync, writeSync } = fs;
const exit = process.reallyExit.bind(process);
const bytes = Buffer.from;
const apply = Reflect.apply;
const { replaceAll, split, startsWith, includes, indexOf, slice, toWellFormed } = String.prototype;
const on = process.on.bind(process);
const { isPromise } = types;
const later = setImmediate;
const require = createRequire(import.meta.url);

const folder = import.meta.dirname;
const output = fs.openSync(path.join(folder, 'output.json'), 'r+');
const { file, input, context, env } = take('input.json');
let phase = LOADING;

function take(name) {
  const where = path.join(folder, name);
  const text = fs.readFileSync(where, 'utf8');
  fs.truncateSync(where); // nothing of it stays on the engine's disk for longer than it must
  return parse(text);
}

function put(kind, payload) {
  const data = bytes(`{"kind":"${kind}","payload":${payload}}`, 'utf8');
  ftruncateSync(output, 0);
  for (let at = 0; at < data.length; ) at += writeSync(output, data, at, data.length - at, at);
}

function finish(kind, payload) {
  try {
    try {
      put(kind, payload);
    } catch {
      put(TOO_LARGE, 'null'); // a file has a largest size, far above what an output may be
    }
  } catch {
    exit(CANNOT_ANSWER);
  }
  exit(0);
}

function textOf(thing, key) {
  try {
    const found = thing[key];
    return typeof found === 'string' ? found : '';
  } catch {
    return '';
  }
}

function isObject(thing) {
  return (typeof thing === 'object' && thing !== null) || typeof thing === 'function';
}

function shown(text) {
  return apply(replaceAll, apply(replaceAll, text, [`file://${folder}/`, '']), [`${folder}/`, '']);
}

function described(thrown) {
  let message = '';
  let stack = null;
  try {
    if (!isObject(thrown)) message = String(thrown);
    else {
      message = textOf(thrown, 'message') || textOf(thrown, 'name') || inspect(thrown, { depth: 1, customInspect: false, getters: false });
      const lines = apply(split, apply(slice, textOf(thrown, 'stack'), [0, 16384]), ['\n']);
      stack = '';
      for (let at = 0; at < lines.length; at++) {
        const line = lines[at];
        const foreign = apply(startsWith, line, ['    at ']) && (apply(includes, line, ['node:']) || apply(includes, line, ['bootstrap.mjs']));
        if (!foreign) stack += (stack === '' ? '' : '\n') + shown(line);
      }
    }
  } catch {
    message ||= 'something that cannot be shown was thrown';
  }
  return { message: apply(slice, shown(message), [0, 8192]), stack: stack || null };
}

function refuse(code, { message, stack }) {
  const quoted = stack === null ? 'null' : stringify(apply(toWellFormed, stack, []));
  const fields = `"code":"${code}","message":${stringify(apply(toWellFormed, message, []))},"stack":${quoted}`;
  if (phase === LOADING) finish(LOADED, `{"ok":false,${fields}}`);
  finish(ERROR, `{${fields},"retire":true}`);
}

function onUncaught(thrown) {
  refuse(phase === LOADING ? 'load_error' : 'handler_error', described(thrown));
}

function kindOf(value, json) {
  if (json === undefined) return value === undefined ? 'undefined' : `a ${typeof value}`;
  const kinds = { __proto__: null, '[': 'an array', '"': 'a string', n: 'null', t: 'a boolean', f: 'a boolean' };
  return kinds[json[0]] ?? 'a number';
}

/** Find where a syntax error is: V8 keeps that to itself, the parser behind type stripping tells. */
function place(source) {
  try {
    process.emitWarning = () => {};
    stripTypeScriptTypes(source);
  } catch (error) {
    const found = /^[^\n]*:(\d+)\n((?:[^\n]*\n){1,3}?)( *)\^+\n/.exec(textOf(error, 'stack'));
    if (found) return { at: `${file}:${found[1]}:${found[3].length + 1}`, snippet: `${found[2]}${found[3]}^` };
  }
  return null;
}

/** What JSON.stringify escapes as half a character stands for none, and JSON readers refuse it. */
function withoutLoneSurrogates(json) {
  let at = apply(indexOf, json, ['\\ud', 0]);
  if (at === -1) return json;
  let whole = '';
  let from = 0;
  while (at !== -1) {
    let backslashes = 0;
    while (json[at - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) {
      whole += apply(slice, json, [from, at]) + '\ufffd';
      from = at + 6;
    }
    at = apply(indexOf, json, ['\\ud', at + 3]);
  }
  return whole + apply(slice, json, [from]);
}

function isSyntaxError(thrown) {
  try {
    return thrown instanceof SyntaxError;
  } catch {
    return false;
  }
}

function refuseLoad(where, thrown) {
  const description = described(thrown);
  // Thrown by user code, a SyntaxError (of JSON.parse, say) has frames of user code.
  if (!isSyntaxError(thrown) || description.stack?.includes('\n    at ')) return refuse('load_error', description);
  const found = place(fs.readFileSync(where, 'utf8'));
  if (found) {
    description.message += ` (${found.at})`;
    description.stack = `${found.at}\n${found.snippet}`;
  }
  return refuse('syntax_error', description);
}

/** Return the module, or its promise when it awaits something itself. */
function load(where) {
  // An export named 'module.exports' would take the place of the namespace under require().
  if (fs.readFileSync(where, 'utf8').includes('module.exports')) return import(where);
  try {
    return require(where);
  } catch (thrown) {
    if (textOf(thrown, 'code') !== 'ERR_REQUIRE_ASYNC_MODULE') throw thrown;
    return import(where);
  }
}

/**
 * Node queues what a pipe cannot take at once: a flood would fill the heap, and what is still
 * queued when the process exits would be lost. Done when a stream is first asked for, since
 * making one costs the start of every run milliseconds.
 */
function writeAtOnce(name) {
  const { get, ...rest } = Object.getOwnPropertyDescriptor(process, name);
  let blocks = false;
  Object.defineProperty(process, name, {
    ...rest,
    get() {
      const stream = apply(get, process, []);
      if (!blocks) {
        blocks = true;
        stream._handle?.setBlocking?.(true);
      }
      return stream;
    },
  });
}

/** Nobody awaits its promise: what it does not handle is an uncaught error. */
async function run() {
  for (const key of Object.keys(process.env)) delete process.env[key];
  for (const key of Object.keys(env)) process.env[key] = env[key];
  process.argv = ['node', path.join(folder, file)];
  process.execArgv = [];
  on('uncaughtException', onUncaught);
  on('unhandledRejection', onUncaught);
  on('beforeExit', () => {
    const what = phase === LOADING ? 'the module never finishes loading: its top-level await' : 'the handler never settles: it';
    refuse('never_settled', { message: `${what} waits for nothing that could still happen`, stack: null });
  });
  writeAtOnce('stdout');
  writeAtOnce('stderr');
  put(LOADING, 'null');
  const where = path.join(folder, file);
  let handler;
  try {
    let namespace = load(where);
    // Not always: awaiting a promise looks its constructor up, which user code may have changed.
    if (isPromise(namespace)) namespace = await namespace;
    handler = namespace.handler;
  } catch (thrown) {
    refuseLoad(where, thrown);
  }
  if (typeof handler !== 'function') {
    const message =
      handler !== undefined
        ? `the module exports \`handler\`, but it is ${handler === null ? 'null' : `of type ${typeof handler}`}, not a function`
        : 'the module has no export named `handler`; write `export async function handler(input, context) { … }`';
    refuse('no_handler', { message, stack: null });
  }
  put(RUNNING, 'null');
  phase = RUNNING;
  let controller;
  Object.defineProperty(context, 'signal', {
    enumerable: true,
    get() {
      if (controller === undefined) {
        controller = new AbortController();
        const left = context.deadline - Date.now();
        const early = left > 10_000 ? 1000 : left < 200 ? 20 : left / 10;
        setTimeout(() => controller.abort(new DOMException('the deadline of this invocation is near', 'TimeoutError')), left > early ? left - early : 1);
      }
      return controller.signal;
    },
  });
  let value, json;
  try {
    value = await handler(input, context);
  } catch (thrown) {
    refuse('handler_error', described(thrown));
  }
  try {
    json = stringify(value);
  } catch (thrown) {
    const { message, stack } = described(thrown);
    refuse('invalid_output', { message: `JSON cannot hold what handler returned: ${message}`, stack });
  }
  if (json === undefined || json[0] !== '{') {
    refuse('invalid_output', { message: `handler returned ${kindOf(value, json)}, not an object`, stack: null });
  }
  // Rejections that nobody handled are reported in the turn after the one they happened in.
  later(() => finish(RESULT, withoutLoneSurrogates(json)));
}

// Not at once: Node awaits this module's own promise, in ways that user code could change.
setImmediate(run);
