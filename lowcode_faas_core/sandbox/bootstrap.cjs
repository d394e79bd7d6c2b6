'use strict';
// Runs inside every sandbox: loads one module, then runs its handler once for each RUN frame. The
// frames are described in protocol.py; the loader compiles this as a function of the names below.
// `load` is its import(): one of our own would warn of being experimental in the user's log.
//
// User code shares this process, so nothing here is secret or safe from it for good: the host
// decides every verdict and takes only the result and log text from here. What this file promises
// is that ordinary code gets truthful answers and that hostile code cannot make it send a frame
// that is not one. So every intrinsic used after the load is captured below, before user code runs,
// and values of user code are touched only inside try.
//
// One character beyond Latin-1, be it in a comment, and V8 keeps two bytes for each of this file.
/* global require, load, token, IN, OUT */

const fs = require('node:fs');
const path = require('node:path');
const { AsyncLocalStorage } = require('node:async_hooks');
const { Console } = require('node:console');
const Module = require('node:module');
const { pathToFileURL } = require('node:url');
const { format, inspect, types } = require('node:util');
const { builtinModules, stripTypeScriptTypes, syncBuiltinESMExports } = Module;

// Calling a bound function looks nothing up on a prototype that user code could have changed.
const uncurry = Function.prototype.bind.bind(Function.prototype.call);
const apply = Reflect.apply;
const { parse: jsonParse, stringify: jsonStringify } = JSON;
const indexOf = uncurry(String.prototype.indexOf);
const slice = uncurry(String.prototype.slice);
const startsWith = uncurry(String.prototype.startsWith);
const charCodeAt = uncurry(String.prototype.charCodeAt);
const toWellFormed = uncurry(String.prototype.toWellFormed);
const utf8Slice = uncurry(Buffer.prototype.utf8Slice);
const copyWithin = uncurry(Uint8Array.prototype.copyWithin);
const setBytes = uncurry(Uint8Array.prototype.set);
const subarray = uncurry(Uint8Array.prototype.subarray);
const encoder = new TextEncoder();
const encode = encoder.encode.bind(encoder);
const encodeInto = encoder.encodeInto.bind(encoder);
const allocate = Buffer.allocUnsafeSlow;
const defineProperty = Object.defineProperty;
const { readSync, writeSync } = fs;
const wait = Atomics.wait;
const waitCell = new Int32Array(new SharedArrayBuffer(4));
const hrtime = process.hrtime.bigint;
const wallClock = Date.now;
const bigint = BigInt;
const text = String;
const { setTimeout, clearTimeout, AbortController, DOMException, SyntaxError } = globalThis;
const abort = uncurry(AbortController.prototype.abort);
const exit = process.reallyExit.bind(process);
const isNamespace = types.isModuleNamespaceObject;
// Runs what process.nextTick holds and reports rejections nobody handles; Node's own, unofficial.
const tick = process._tickCallback?.bind(process);
const prependListener = process.prependListener.bind(process);
const removeListener = process.removeListener.bind(process);
const executions = new AsyncLocalStorage();
const inExecution = executions.run.bind(executions);
const execution = executions.getStore.bind(executions);

const code = (letter) => letter.charCodeAt(0);
const LOAD = code('L'), RUN = code('R'), CHECK = code('C'), WARM = code('W');
const READY = code('r'), LOADED = code('l'), RESULT = code('d'), RESULT_RETIRE = code('D');
const ERROR = code('e'), LOG = code('g'), CHECKED = code('c');

const HEADER = 21;
const ROOM = 65536;
/**
 * Characters of one log frame, more than the host keeps of any line: what is beyond is left out here.
 * Escaped, one takes up to six bytes, and a frame may have 8 MiB.
 */
const PIECE = 1 << 20;
const MESSAGE_CHARS = 8192;
const STACK_CHARS = 16384;
const SOFTWARE_ERROR = 70;

// fs asks a buffer for its length through a getter user code may replace, which would then hold a
// buffer with the token in it: an own property keeps both the answer and the buffer.
function sealed(bytes, size) {
  return defineProperty(bytes, 'byteLength', { __proto__: null, value: size });
}

// The token is only ever in these two: a buffer that is freed can turn up in one of user code's.
const inbox = sealed(Buffer.alloc(ROOM), ROOM);
const outbox = sealed(Buffer.alloc(ROOM), ROOM);
const outboxBody = subarray(outbox, HEADER);
const inboxBody = subarray(inbox, HEADER);
setBytes(outbox, token);
let held = 0; // bytes in the inbox
let payload = '';

function pause(milliseconds) {
  wait(waitCell, 0, 0, milliseconds);
}

/** Read some bytes; ends the process at the end of the stream: nobody is left to answer. */
function pull(bytes, at, size) {
  for (let attempt = 1; ; attempt++) {
    let got;
    try {
      got = readSync(IN, bytes, at, size, null);
    } catch (error) {
      // User code can make the descriptor non-blocking; then waiting is up to us.
      if (error.code !== 'EAGAIN') exit(SOFTWARE_ERROR);
      pause(attempt < 20 ? attempt : 20);
      continue;
    }
    if (got === 0) exit(0);
    return got;
  }
}

function push(bytes, size) {
  for (let at = 0; at < size; ) {
    try {
      at += writeSync(OUT, bytes, at, size - at);
    } catch (error) {
      if (error.code !== 'EAGAIN') exit(SOFTWARE_ERROR);
      pause(1);
    }
  }
}

/** Block until the next frame is here; leaves its text in `payload` and returns its kind. */
function receive() {
  while (held < HEADER) held += pull(inbox, held, ROOM - held);
  for (let at = 0; at < 16; at++) if (inbox[at] !== outbox[at]) exit(SOFTWARE_ERROR);
  const kind = inbox[16];
  const size = inbox[17] * 0x1000000 + (inbox[18] << 16) + (inbox[19] << 8) + inbox[20];
  const end = HEADER + size;
  if (end <= ROOM) {
    while (held < end) held += pull(inbox, held, ROOM - held);
    payload = utf8Slice(inbox, HEADER, end);
    if (held > end) copyWithin(inbox, 0, end, held);
    held -= end;
  } else {
    const whole = sealed(allocate(size), size);
    let got = held - HEADER;
    // All of it, as what follows is written over: to cut it here would ask user code what to make.
    setBytes(whole, inboxBody);
    held = 0;
    while (got < size) got += pull(whole, got, size - got);
    payload = utf8Slice(whole, 0, size);
  }
  return kind;
}

function send(kind, json) {
  const fits = json.length * 3 <= ROOM - HEADER;
  const bytes = fits ? null : encode(json);
  const size = fits ? encodeInto(json, outboxBody).written : utf8Length(json);
  outbox[16] = kind;
  outbox[17] = size >>> 24;
  outbox[18] = size >>> 16;
  outbox[19] = size >>> 8;
  outbox[20] = size;
  push(outbox, fits ? HEADER + size : HEADER);
  if (!fits) push(sealed(bytes, size), size);
}

const utf8Length = Buffer.byteLength;

/** Quote text as JSON; lone surrogates, which no UTF-8 can hold, become U+FFFD. */
function quote(value) {
  return jsonStringify(toWellFormed(value));
}

// JSON.stringify escapes lone surrogates, and only those, as \udxxx: the host would refuse them.
function withoutLoneSurrogates(json) {
  let at = indexOf(json, '\\ud');
  if (at === -1) return json;
  let whole = '';
  let from = 0;
  while (at !== -1) {
    let backslashes = 0;
    while (json[at - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) {
      whole += slice(json, from, at) + '\ufffd';
      from = at + 6;
    }
    at = indexOf(json, '\\ud', at + 3);
  }
  return whole + slice(json, from);
}

/** Nanoseconds between the monotonic clock and the epoch; see `keepTime`. */
let epoch = bigint(wallClock()) * 1_000_000n - hrtime();

/** Follow a wall clock that was set while the sandbox was frozen, or whose machine slept. */
function keepTime() {
  const now = bigint(wallClock()) * 1_000_000n - hrtime();
  const drift = now - epoch;
  if (drift > 50_000_000n || drift < -50_000_000n) epoch = now;
}

function log(run, time, level, stream, message) {
  const head = `{"x":${run === undefined ? '""' : run.quotedId},"t":"${time}","l":"${level}","s":"${stream}","m":`;
  if (message.length > PIECE) {
    const last = charCodeAt(message, PIECE - 1);
    message = slice(message, 0, last >= 0xd800 && last < 0xdc00 ? PIECE - 1 : PIECE); // no half of a pair
  }
  send(LOG, `${head}${quote(message)}}`);
}

/** Cuts what is written to one of the streams into lines, one event each. */
class Lines {
  #stream;
  #level;
  #decoder;
  #half = '';
  #owner;
  #time;
  #over = false; // what comes belongs to a line that was cut
  #state; // the Writable's own, once user code has asked for that

  constructor(stream, level) {
    this.#stream = stream;
    this.#level = level;
  }

  cutWhatComesTo(writable) {
    this.#state = writable._writableState;
    return writable;
  }

  write(chunk) {
    const run = execution();
    if (run !== this.#owner) {
      this.flush();
      this.#over = false;
      this.#owner = run;
    }
    const written = typeof chunk === 'string' ? chunk : this.#decode(chunk);
    const time = epoch + hrtime();
    let from = 0;
    for (let end; (end = indexOf(written, '\n', from)) !== -1; from = end + 1) {
      if (this.#over) {
        this.#over = false;
        continue;
      }
      const line = this.#half + slice(written, from, end);
      log(run, this.#half === '' ? time : this.#time, this.#level, this.#stream, withoutReturn(line));
      this.#half = '';
    }
    if (this.#over) return;
    if (this.#half === '') this.#time = time;
    this.#half += from === 0 ? written : slice(written, from);
    // A line without an end must not fill the heap, and no later moment comes once exit has begun.
    this.#over = this.#half.length >= PIECE;
    if (this.#over || ending) this.flush();
  }

  #decode(bytes) {
    if (this.#decoder === undefined) {
      const { StringDecoder } = require('node:string_decoder');
      this.#decoder = new StringDecoder('utf8');
    }
    return this.#decoder.write(bytes);
  }

  /** Give out what has no newline yet. */
  flush() {
    if (this.#half === '') return;
    const half = this.#half;
    this.#half = '';
    log(this.#owner, this.#time, this.#level, this.#stream, half);
  }

  /** The run is over: its last bytes must not begin a line of the next one. */
  finish() {
    if (this.#decoder !== undefined) {
      try {
        this.#half += this.#decoder.end();
      } catch {
        // User code has replaced the decoder's methods; what it held back is theirs to miss.
      }
    }
    this.flush();
    this.#over = false;
    if (this.#state !== undefined && this.#state.length > 0 && this.#state.corked === 0) this.#lose();
  }

  /**
   * Say that the Writable takes nothing any more: a write for which no stack was left has never come to
   * its end, and whatever comes is put behind it.
   */
  #lose() {
    this.#state = undefined;
    tainted = true;
    const message = 'what was written here after the stack had run out is lost';
    log(this.#owner, epoch + hrtime(), 'warn', this.#stream, message);
  }
}

function withoutReturn(line) {
  return line[line.length - 1] === '\r' ? slice(line, 0, line.length - 1) : line;
}

let ending = false;
const stdout = new Lines('stdout', 'info');
const stderr = new Lines('stderr', 'error');

function finishLines() {
  stdout.finish();
  stderr.finish();
}

function onExit() {
  ending = true;
  finishLines();
}

/** A stand-in for process.stdout or process.stderr whose lines become log frames. */
function outputStream(fd, lines) {
  const { Writable } = require('node:stream');
  const stream = new Writable({
    decodeStrings: false,
    write(chunk, encoding, done) {
      const isText = typeof chunk === 'string' && (encoding === 'utf8' || encoding === 'utf-8');
      try {
        lines.write(isText || typeof chunk !== 'string' ? chunk : Buffer.from(chunk, encoding));
      } finally {
        done(); // else whatever comes later would wait for this
      }
    },
  });
  // As Node's own: neither can be closed, since later runs print too.
  stream.destroy = stream.destroySoon = () => stream;
  stream.fd = fd;
  stream._type = 'pipe';
  return lines.cutWhatComesTo(stream);
}

/** A stand-in for process.stdin: descriptor 0 may be the channel. */
function emptyStream() {
  const { Readable } = require('node:stream');
  const stream = new Readable({ read() {} });
  stream.push(null);
  return stream;
}

function lazily(name, make) {
  let stream;
  defineProperty(process, name, {
    __proto__: null,
    configurable: true,
    enumerable: true,
    get: () => (stream ??= make()),
  });
}

const captureStackTrace = Error.captureStackTrace;

const LEVELS = { __proto__: null, debug: 'debug', warn: 'warn', assert: 'warn', trace: 'warn', error: 'error' };

/** Let console.* make one event a call, whatever its text; groups, counters, timers as in Node. */
function replaceConsole() {
  let level = 'info';
  const sink = (name, lines) => ({
    write(message) {
      lines.flush();
      const end = message.length - 1;
      log(execution(), epoch + hrtime(), level, name, message[end] === '\n' ? slice(message, 0, end) : message);
    },
  });
  const own = new Console({
    stdout: sink('stdout', stdout),
    stderr: sink('stderr', stderr),
    colorMode: false,
    ignoreErrors: false,
  });
  for (const name of Object.keys(own)) {
    const method = own[name];
    if (typeof method !== 'function' || typeof console[name] !== 'function') continue;
    const ownLevel = LEVELS[name] ?? 'info';
    // A method, so that it has its name and is no constructor.
    console[name] = {
      [name](...values) {
        const before = level; // an inspected value may print, too
        level = ownLevel;
        try {
          return apply(method, own, values);
        } finally {
          level = before;
        }
      },
    }[name];
  }
  // Node's would show our frames below the user's.
  const { warn } = console;
  console.trace = function trace(...values) {
    const here = { __proto__: null, name: 'Trace', message: apply(format, undefined, values) };
    captureStackTrace(here, trace);
    warn(tidied(here.stack));
  };
}

/** Where the module's folder is made: asked for before its own environment is in place. */
const scratch = process.env.TMPDIR || '/tmp';
/** Where the module is written, with a slash at its end; empty until it is made. */
let folder = '';
let folderUrl = '';

function without(where, piece) {
  if (piece === '') return where;
  let out = '';
  let from = 0;
  for (let at; (at = indexOf(where, piece, from)) !== -1; from = at + piece.length) out += slice(where, from, at);
  return from === 0 ? where : out + slice(where, from);
}

/** Keep of a stack what is the user's: `greet.mjs:3:9`, no folder of ours, no frame of Node's. */
function tidied(stack) {
  let out = '';
  for (let from = 0, end; from <= stack.length; from = end + 1) {
    end = indexOf(stack, '\n', from);
    if (end === -1) end = stack.length;
    const line = slice(stack, from, end);
    const foreign =
      startsWith(line, '    at ') &&
      (indexOf(line, 'node:internal/') !== -1 ||
        indexOf(line, '(node:') !== -1 ||
        indexOf(line, 'at node:') !== -1 ||
        indexOf(line, 'lowcode-faas:bootstrap') !== -1 ||
        indexOf(line, '[eval]') !== -1);
    if (!foreign) out += from === 0 ? line : '\n' + line;
  }
  return shown(out);
}

function shown(message) {
  return without(without(message, folderUrl), folder);
}

/** Read a property of whatever was thrown; getters and proxies may throw, or lie about the type. */
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

function messageOf(thrown) {
  if (!isObject(thrown)) return text(thrown);
  const message = textOf(thrown, 'message') || textOf(thrown, 'name');
  if (message !== '') return message;
  try {
    return inspect(thrown, { __proto__: null, depth: 1, customInspect: false, showProxy: true, getters: false });
  } catch {
    return 'something that cannot be shown was thrown';
  }
}

function stackOf(thrown, depth = 0) {
  if (!isObject(thrown)) return '';
  let stack = tidied(slice(textOf(thrown, 'stack'), 0, STACK_CHARS));
  let cause;
  try {
    cause = thrown.cause;
  } catch {
    // A cause that cannot be read is none.
  }
  // Causes may form a ring.
  if (cause !== undefined && depth < 4) stack += `\nCaused by: ${stackOf(cause, depth + 1) || shown(messageOf(cause))}`;
  return slice(stack, 0, STACK_CHARS);
}

function described(thrown) {
  let message, stack;
  try {
    message = slice(shown(messageOf(thrown)), 0, MESSAGE_CHARS);
    stack = stackOf(thrown);
  } catch {
    message ??= 'something that cannot be shown was thrown';
  }
  return { message, stack: stack || null };
}

function problem(kind, what, { message, stack }, more) {
  const quotedStack = stack === null ? 'null' : quote(stack);
  send(kind, `{${more},"code":"${what}","message":${quote(message)},"stack":${quotedStack}}`);
}

/** What runs now: LOADING, an execution, or null while no user code should be running. */
let current = null;
const LOADING = { __proto__: null };
/** Set once a run of the past has failed after its end: this instance is not to be used again. */
let tainted = false;
let handler;

class Execution {
  timer;
  controller;
  over = false;

  constructor(given) {
    this.quotedId = quote(given.executionId);
    this.deadline = given.deadline;
    const run = this;
    this.context = {
      executionId: given.executionId,
      runId: given.runId,
      functionName: given.functionName,
      collectionPath: given.collectionPath,
      version: given.version,
      deadline: given.deadline,
      traceparent: given.traceparent,
      get signal() {
        return run.signal();
      },
    };
  }

  /** Made when first asked for: most handlers never do. */
  signal() {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      const left = this.deadline - wallClock();
      const early = left > 10_000 ? 1000 : left < 200 ? 20 : left / 10;
      // Keeps the event loop alive: a handler that waits for nothing but the signal can settle.
      if (!this.over) this.timer = setTimeout(() => this.#fire(), left > early ? left - early : 1);
    }
    return this.controller.signal;
  }

  #fire() {
    abort(this.controller, new DOMException('the deadline of this invocation is near', 'TimeoutError'));
  }

  end() {
    this.over = true;
    if (this.timer !== undefined) clearTimeout(this.timer);
  }
}

/** Answer for what runs now and never run again: the event loop's state is unknown. */
function fail(what, description) {
  finishLines();
  if (current === LOADING && what === 'handler_error') problem(LOADED, 'load_error', description, '"ok":false');
  else problem(ERROR, what, description, '"retire":true');
  for (;;) receive(); // until the host ends it, or its stream
}

function onUncaught(thrown) {
  const owner = execution();
  if (current !== null && (owner === undefined || owner === current)) fail('handler_error', described(thrown));
  tainted = true;
  const { message, stack } = described(thrown);
  log(owner, epoch + hrtime(), 'error', 'stderr', `uncaught after the run: ${stack ?? message}`);
}

function onBeforeExit() {
  const message =
    current === LOADING
      ? 'the module never finishes loading: its top-level await waits for nothing that could still happen'
      : 'the handler never settles: it waits for nothing that could still happen';
  fail('never_settled', { message, stack: null });
}

const listeners = [
  ['uncaughtException', onUncaught],
  ['unhandledRejection', onUncaught],
  ['beforeExit', onBeforeExit],
  ['exit', onExit],
];

/** Put our listeners first (again): process.removeAllListeners is anybody's to call. */
function listen() {
  for (let at = 0; at < 4; at++) {
    const event = listeners[at][0];
    const listener = listeners[at][1];
    try {
      const there = process._events[event];
      if (there === listener || there?.[0] === listener) continue;
      removeListener(event, listener);
      prependListener(event, listener);
    } catch {
      // User code broke the emitter: an uncaught error then ends the process, which the host sees.
    }
  }
}

function drain() {
  try {
    tick();
  } catch (thrown) {
    onUncaught(thrown); // a callback of process.nextTick threw, and its execution is still entered
  }
}

/** Run what the run has left to do at once, above all report rejections it did not handle. */
function settle() {
  try {
    if (tick !== undefined) inExecution(undefined, drain);
  } catch {
    // As above: then rejections come out in the next run, if there is one.
  }
  finishLines();
}

function kindOf(value, json) {
  if (json === undefined) {
    if (value === undefined) return 'undefined';
    return isObject(value) && typeof value === 'object' ? 'an object that JSON leaves out' : `a ${typeof value}`;
  }
  const first = json[0];
  if (first === '[') return 'an array';
  if (first === '"') return 'a string';
  if (first === 'n') return 'null';
  return first === 't' || first === 'f' ? 'a boolean' : 'a number';
}

function answer(run, value) {
  let json, thrown;
  let serialised = false;
  try {
    // Getters and toJSON are user code: what they print is this run's. They run once; from here on
    // only the text counts, and the host looks at `ok` in it.
    json = inExecution(run, jsonStringify, value);
    serialised = true;
  } catch (error) {
    thrown = error;
  }
  settle();
  close(run);
  if (!serialised) {
    const { message, stack } = described(thrown);
    return invalid(`JSON cannot hold what handler returned: ${message}`, stack);
  }
  if (json === undefined || json[0] !== '{') return invalid(`handler returned ${kindOf(value, json)}, not an object`, null);
  send(tainted ? RESULT_RETIRE : RESULT, withoutLoneSurrogates(json));
}

function invalid(message, stack) {
  problem(ERROR, 'invalid_output', { message, stack }, `"retire":${tainted}`);
}

function refuse(run, thrown) {
  let description;
  try {
    description = inExecution(run, described, thrown); // reading it may run getters, which may print
  } catch {
    description = described(thrown); // AsyncLocalStorage itself is broken by what user code replaced
  }
  settle();
  close(run);
  problem(ERROR, 'handler_error', description, `"retire":${tainted}`);
}

function close(run) {
  run.end();
  current = null;
}

function replaceEnvironment(env) {
  for (const key of Object.keys(process.env)) delete process.env[key];
  for (const key of Object.keys(env)) process.env[key] = env[key];
}

function newFolder() {
  return fs.mkdtempSync(path.join(scratch, 'function-')) + path.sep;
}

function makeFolder() {
  folder = newFolder();
  folderUrl = pathToFileURL(folder).href;
}

function writeModule(name, source) {
  fs.writeFileSync(name, source, { mode: 0o600, flag: 'wx' });
}

/** Find where a syntax error is: V8 keeps that to itself, the parser behind type stripping tells. */
function locate(source) {
  const emitWarning = process.emitWarning;
  process.emitWarning = () => {}; // its being experimental is no news to the user
  let said = '';
  try {
    stripTypeScriptTypes(source);
  } catch (error) {
    said = textOf(error, 'stack');
  } finally {
    process.emitWarning = emitWarning;
  }
  // ":line", up to three lines of source with carets under the place, an empty line.
  const found = /^[^\n]*:(\d+)\n((?:[^\n]*\n){1,3}?)( *)\^+\n/.exec(said);
  if (found) return { line: Number(found[1]), column: found[3].length + 1, snippet: `${found[2]}${found[3]}^` };
  // What spans several lines is shown between two that are marked, and only its line is told.
  const spans = /^[^\n]*:(\d+)\n((?: {4}[^\n]*\n)*? {2}> [^\n]*)\n/.exec(said);
  if (spans) return { line: Number(spans[1]), column: null, snippet: spans[2] };
  // Where the source ends too early there is nothing to put carets under.
  const ends = /^[^\n]*:(\d+)\n([^\n]*)\n\n/.exec(said);
  return ends && { line: Number(ends[1]), column: null, snippet: ends[2] };
}

function isSyntaxError(thrown) {
  try {
    return thrown instanceof SyntaxError;
  } catch {
    return false;
  }
}

/** Write the module and put its environment in place: all that comes before user code. */
function prepareModule({ source, file, env }) {
  if (folder === '') makeFolder();
  const name = folder + file;
  writeModule(name, source);
  replaceEnvironment(env);
  process.argv = ['node', name];
  listen();
  current = LOADING;
  return { source, file, name };
}

/** Return the module's namespace, or something else when only import() will do. */
function requireModule({ source, name }) {
  // An export named 'module.exports' would take the place of the namespace under require().
  if (source.includes('module.exports')) return undefined;
  try {
    if (!name.endsWith('.mjs')) return require(name);
    // What require() comes to for an ES module, without looking for the file and reading it again,
    // which is two thirds of its time.
    const module = new Module(name);
    module._compile(source, name, 'module');
    return module.exports;
  } catch (thrown) {
    if (textOf(thrown, 'code') !== 'ERR_REQUIRE_ASYNC_MODULE') throw thrown;
    return undefined;
  }
}

function refuseModule({ source, file }, thrown) {
  const description = described(thrown);
  settle();
  current = null;
  // Thrown by user code, a SyntaxError (of JSON.parse, say) has frames of user code.
  const duringCompile = isSyntaxError(thrown) && indexOf(description.stack ?? '', '\n    at ') === -1;
  if (duringCompile) {
    const found = locate(source);
    if (found) {
      const position = `${file}:${found.line}${found.column === null ? '' : `:${found.column}`}`;
      description.message += ` (${position})`;
      description.stack = `${position}\n${found.snippet}`;
    }
  }
  problem(LOADED, duringCompile ? 'syntax_error' : 'load_error', description, '"ok":false');
}

function acceptModule() {
  if (typeof handler === 'function') return send(LOADED, '{"ok":true}');
  const message =
    handler !== undefined
      ? `the module exports \`handler\`, but it is ${handler === null ? 'null' : `of type ${typeof handler}`}, not a function`
      : 'the module has no export named `handler`; write `export async function handler(input, context) { \u2026 }`';
  problem(LOADED, 'no_handler', { message, stack: null }, '"ok":false');
}

/** After that many V8 has compiled what it interprets at first: the first call is not to wait for it. */
const WARM_UPS = 12;

/**
 * Make the folder, and load and run modules while nobody waits, all the way that the first call takes.
 * What user code could see of it is none of its own.
 */
async function warmUp() {
  makeFolder();
  const loading = process.argv;
  for (let count = 0; count < WARM_UPS; count++) {
    const given = jsonParse(`{"source":"export async function handler() { return { ok: true }; }","file":"warm-${count}.mjs"}`);
    const module = prepareModule({ ...given, env: { ...process.env } });
    const { handler: own } = requireModule(module);
    settle();
    current = null;
    await undefined;
    fs.unlinkSync(module.name);
    listen();
    keepTime();
    const run = new Execution(jsonParse(`{"executionId":"","deadline":${wallClock()}}`));
    withoutLoneSurrogates(inExecution(run, jsonStringify, await inExecution(run, own, {}, run.context)));
    settle();
    run.end();
  }
  process.argv = loading;
}

const NOWHERE = 'lowcode-faas:nowhere';

/** Say whether Node accepts a module. It is compiled, but never run: one import cannot be found. */
async function check({ source, file }) {
  // Before the source, on its first line: behind it, a source that ends too early would go on here.
  const made = newFolder();
  const name = made + file;
  writeModule(name, `import '${NOWHERE}';${source.replace(/^#!/, '//')}`);
  let thrown;
  try {
    await load(pathToFileURL(name).href);
  } catch (error) {
    thrown = error;
  } finally {
    fs.rmSync(made, { recursive: true, force: true });
  }
  if (!isSyntaxError(thrown)) return send(CHECKED, '{"ok":true}');
  const { line, column } = locate(source) ?? { line: null, column: null };
  send(CHECKED, `{"ok":false,"code":"syntax_error","message":${quote(messageOf(thrown))},"line":${line},"column":${column}}`);
}

/**
 * Take frames for ever. After a run the promise's own continuation answers and blocks in the next
 * read, so that the event loop does not turn between runs: user code is frozen.
 */
async function serve() {
  for (;;) {
    const kind = receive();
    if (kind === RUN) {
      const { context, input } = jsonParse(payload);
      payload = '';
      listen();
      keepTime();
      const run = (current = new Execution(context));
      let value;
      try {
        // `await` looks up neither `then` of a genuine promise nor its species, as .then() would.
        value = await inExecution(run, handler, input, run.context);
      } catch (thrown) {
        refuse(run, thrown);
        continue;
      }
      answer(run, value);
    } else if (kind === LOAD) {
      const module = prepareModule(jsonParse(payload));
      // Only an import is awaited, and inside try: `await` reads `constructor` of a promise, which
      // by then may be a getter of user code's. So this is no function of its own.
      try {
        let namespace = requireModule(module);
        if (!isNamespace(namespace)) namespace = await load(pathToFileURL(module.name).href);
        handler = namespace.handler;
      } catch (thrown) {
        refuseModule(module, thrown);
        continue;
      }
      settle();
      current = null;
      // What its evaluation left to do at once is not for the first run to answer for, and what it
      // prints must be out before the answer.
      await undefined;
      acceptModule();
    } else if (kind === CHECK) await check(jsonParse(payload));
    else if (kind === WARM) await warmUp();
    else exit(SOFTWARE_ERROR);
  }
}

function start() {
  // First of all: what the host does before it sends anything takes as long as some of what is below.
  send(READY, `{"node":"${process.versions.node}","pid":${process.pid}}`);
  // `node -e` makes globals of these and of every built-in module: code would come to rely on them
  // that runs nowhere else. Four names are globals everywhere.
  for (const name of ['require', 'exports', '__filename', '__dirname', ...builtinModules]) {
    if (name !== 'process' && name !== 'console' && name !== 'crypto' && name !== 'performance') delete globalThis[name];
  }
  delete process._eval;
  // It finds every object of a class in the heap, and shows what is in it: the token, too. That module
  // brings Node's streams along, 2 ms and 0.4 MiB; to hide it later, as it is asked for, can be thwarted
  // by asking where the stack is all but used up.
  delete require('node:v8').queryObjects;
  syncBuiltinESMExports();
  process.argv = ['node'];
  process.execArgv = [];
  lazily('stdout', () => outputStream(1, stdout));
  lazily('stderr', () => outputStream(2, stderr));
  lazily('stdin', emptyStream);
  replaceConsole();
  serve().catch(() => exit(SOFTWARE_ERROR));
}

// Not at once: when its script is done, `node -e` sets one of those globals again.
process.nextTick(start);
