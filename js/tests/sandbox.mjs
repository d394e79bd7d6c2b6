// A host for tests: starts the real loader and bootstrap and speaks frames over a socket.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { platform } from '../testing/platform.mjs';

const { loader, bootstrap } = platform();

const HEADER = 21;

export class Sandbox {
  token = randomBytes(16);
  logs = [];
  stdout = '';
  stderr = '';
  #pending = Buffer.alloc(0);
  #frames = [];
  #waiting = [];
  #ended;

  /** `stdio` is 'socket' (descriptor 3 for both ways) or 'pipes' (0 and 1, as under Docker). */
  constructor({ stdio = 'socket', flags = ['--disable-warning=ExperimentalWarning'], env = {} } = {}) {
    this.folder = mkdtempSync(join(tmpdir(), 'lowcode-faas-test-'));
    const pipes = stdio === 'pipes';
    const descriptors = pipes ? ['0', '1', '-'] : ['3', '3', '-'];
    this.process = spawn(process.execPath, [...flags, '-e', loader, ...descriptors], {
      stdio: pipes ? ['pipe', 'pipe', 'pipe'] : ['ignore', 'pipe', 'pipe', 'pipe'],
      env: { TMPDIR: this.folder, ...env },
    });
    this.#ended = new Promise((resolve) => {
      this.process.on('close', (code, signal) => {
        rmSync(this.folder, { recursive: true, force: true });
        const end = { kind: 'end', code, signal };
        this.#deliver(end);
        resolve(end);
      });
    });
    this.#out = pipes ? this.process.stdin : this.process.stdio[3];
    const back = pipes ? this.process.stdout : this.process.stdio[3];
    this.#out.on('error', () => {}); // a reset is an end, and told as such
    back.on('data', (data) => this.#feed(data));
    if (!pipes) this.process.stdout.setEncoding('utf8').on('data', (data) => (this.stdout += data));
    this.process.stderr.setEncoding('utf8').on('data', (data) => (this.stderr += data));
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bootstrap.length);
    this.#out.write(Buffer.concat([this.token, length, bootstrap]));
  }

  #out;

  #feed(data) {
    this.#pending = Buffer.concat([this.#pending, data]);
    while (this.#pending.length >= HEADER) {
      if (!this.#pending.subarray(0, 16).equals(this.token)) {
        this.#deliver({ kind: 'garbage', bytes: this.#pending });
        return;
      }
      const end = HEADER + this.#pending.readUInt32BE(17);
      if (this.#pending.length < end) return;
      const kind = String.fromCharCode(this.#pending[16]);
      const text = new TextDecoder('utf-8', { fatal: true }).decode(this.#pending.subarray(HEADER, end));
      this.#pending = this.#pending.subarray(end);
      const frame = { kind, text, body: JSON.parse(text) };
      if (kind === 'g') this.logs.push(frame.body);
      else this.#deliver(frame);
    }
  }

  #deliver(frame) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(frame);
    else this.#frames.push(frame);
  }

  send(kind, body) {
    const payload = Buffer.from(JSON.stringify(body));
    const head = Buffer.alloc(5);
    head.write(kind);
    head.writeUInt32BE(payload.length, 1);
    this.#out.write(Buffer.concat([this.token, head, payload]));
  }

  /** The next frame that is no LOG, or `{kind: 'end'}`. */
  next() {
    if (this.#frames.length) return Promise.resolve(this.#frames.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async ready() {
    const frame = await this.next();
    if (frame.kind !== 'r') throw new Error(`no READY but ${JSON.stringify(frame)}: ${this.stderr}`);
    return frame.body;
  }

  load(source, { file = 'greet.mjs', env = {} } = {}) {
    this.send('L', { source, file, env, timeout_ms: 5000 });
    return this.next();
  }

  run(input = {}, { id = 'exec-0001', timeout = 5000, traceparent = null } = {}) {
    const context = {
      executionId: id,
      runId: 'run-1',
      functionName: 'greet',
      collectionPath: 'org/team',
      version: 3,
      deadline: Date.now() + timeout,
      traceparent,
    };
    this.send('R', { context, input });
    return this.next();
  }

  check(source, file = 'greet.mjs') {
    this.send('C', { source, file });
    return this.next();
  }

  messages(id) {
    return this.logs.filter((log) => id === undefined || log.x === id).map((log) => log.m);
  }

  /** Close the channel, as a host that is gone does. */
  hangUp() {
    this.#out.destroy();
    return this.#ended;
  }

  kill() {
    this.process.kill('SIGKILL');
    return this.#ended;
  }

  get ended() {
    return this.#ended;
  }
}

/** Start a sandbox that a test `t` ends, load `source` and expect that to work. */
export async function loaded(t, source, options) {
  const sandbox = await started(t, options);
  const frame = await sandbox.load(source, options);
  if (frame.kind !== 'l' || !frame.body.ok) throw new Error(`not loaded: ${frame.text ?? JSON.stringify(frame)} ${sandbox.stderr}`);
  return sandbox;
}

export async function started(t, options) {
  const sandbox = new Sandbox(options);
  t.after(() => sandbox.kill());
  await sandbox.ready();
  return sandbox;
}
