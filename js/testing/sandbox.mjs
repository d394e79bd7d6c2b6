// One child Node with the platform's bootstrap in it, and the frames that go to and fro.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { platform } from './platform.mjs';

const TOKEN = 16;
const HEADER = TOKEN + 5;
/** Bytes of stderr that are kept: V8 says there why it aborted. */
const TAIL = 8192;
/** V8's share of a sandbox's memory, as in the service; buffers, code and threads need the rest. */
const HEAP_SHARE = 0.75;

// Ends the child when this process is killed: a handler that never yields would not see it.
const withMe = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => process.platform === 'linux' && existsSync(path));
const alive = new Set();
process.on('exit', () => {
  for (const sandbox of alive) sandbox.kill();
});

/** Thrown for what is not a frame. */
export class ProtocolError extends Error {}

export class Sandbox {
  /** Called with each line that is printed: `{ execution, level, stream, message, time? }`. */
  onLine = () => {};
  stderrTail = '';
  #token = randomBytes(TOKEN);
  #folder = mkdtempSync(join(tmpdir(), 'lowcode-faas-'));
  #child;
  #channel;
  #pending = Buffer.alloc(0);
  #limit;
  #settle;
  #ended;
  #early = [];

  /** `outputBytes` bounds one result, `memoryMb` V8's heap. */
  constructor({ memoryMb, outputBytes }) {
    this.#limit = outputBytes;
    const { loader, bootstrap } = platform();
    const heap = Math.max(16, Math.floor(memoryMb * HEAP_SHARE));
    const node = [process.execPath, `--max-old-space-size=${heap}`, '--disable-warning=ExperimentalWarning', '-e', loader, '3', '3', '-'];
    const [command, ...rest] = withMe ? [withMe, '--pdeathsig', 'KILL', ...node] : node;
    this.#child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe', 'pipe'], env: { TMPDIR: this.#folder } });
    alive.add(this);
    this.#ended = new Promise((resolve) => {
      const gone = (end) => {
        alive.delete(this);
        rmSync(this.#folder, { recursive: true, force: true });
        resolve(end);
        this.#deliver({ kind: 'end', ...end });
      };
      this.#child.on('error', (error) => gone({ error }));
      this.#child.on('close', (code, signal) => gone({ code, signal }));
    });
    this.#channel = this.#child.stdio[3];
    this.#channel.on('error', () => {}); // a reset is an end, and told as such
    this.#channel.on('data', (data) => this.#feed(data));
    this.#raw(this.#child.stdout, 'stdout', 'info');
    this.#raw(this.#child.stderr, 'stderr', 'error');
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bootstrap.length);
    this.#channel.write(Buffer.concat([this.#token, length, bootstrap]));
  }

  /** What is written past `console` and `process.stdout`, by a native module or a child process. */
  #raw(stream, name, level) {
    let half = '';
    stream.setEncoding('utf8').on('data', (data) => {
      if (name === 'stderr') this.stderrTail = (this.stderrTail + data).slice(-TAIL);
      const lines = (half + data).split('\n');
      half = lines.pop();
      for (const message of lines) this.onLine({ level, stream: name, message });
    });
    stream.on('end', () => half && this.onLine({ level, stream: name, message: half }));
  }

  #feed(data) {
    this.#pending = this.#pending.length ? Buffer.concat([this.#pending, data]) : data;
    while (this.#pending.length >= HEADER) {
      if (!this.#pending.subarray(0, TOKEN).equals(this.#token)) {
        return this.#refuse(new ProtocolError('bytes on the channel that are not a frame'));
      }
      const kind = String.fromCharCode(this.#pending[TOKEN]);
      const size = this.#pending.readUInt32BE(TOKEN + 1);
      if ((kind === 'd' || kind === 'D') && size > this.#limit) return this.#deliver({ kind: 'large' });
      if (this.#pending.length < HEADER + size) return;
      const text = this.#pending.toString('utf8', HEADER, HEADER + size);
      this.#pending = this.#pending.subarray(HEADER + size);
      let body;
      try {
        body = JSON.parse(text);
      } catch {
        return this.#refuse(new ProtocolError('a frame that cannot be read'));
      }
      if (kind === 'g') this.onLine({ execution: body.x, level: body.l, stream: body.s, message: body.m, time: body.t });
      else this.#deliver({ kind, body });
    }
  }

  #refuse(error) {
    this.#pending = Buffer.alloc(0);
    this.#deliver({ kind: 'broken', error });
  }

  #deliver(frame) {
    const settle = this.#settle;
    this.#settle = undefined;
    if (settle) settle(frame);
    else this.#early.push(frame);
  }

  send(kind, body) {
    const payload = Buffer.from(JSON.stringify(body));
    const head = Buffer.alloc(5);
    head.write(kind);
    head.writeUInt32BE(payload.length, 1);
    this.#channel.write(Buffer.concat([this.#token, head, payload]));
  }

  /** The next frame; of kind `end` when the process is gone, `deadline` when that (ms) has passed. */
  next(deadline) {
    if (this.#early.length) return Promise.resolve(this.#early.shift());
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#deliver({ kind: 'deadline' }), Math.max(0, deadline - Date.now()));
      this.#settle = (frame) => {
        clearTimeout(timer);
        resolve(frame);
      };
    });
  }

  kill() {
    this.#child.kill('SIGKILL');
    return this.#ended;
  }
}
