// `lowcode-faas-runtime/testing`: runs a handler's file as the platform would, without a platform.
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checked } from './options.mjs';
import { Sandbox } from './sandbox.mjs';
import { judge } from './verdict.mjs';

/** How the platform names a module: what Node makes of it depends on this. */
const SUFFIXES = { '.mjs': '.mjs', '.js': '.mjs', '.mts': '.mts', '.ts': '.mts' };
/** Milliseconds until a child Node that does not start is given up. */
const START_MS = 30_000;

const [MAJOR, MINOR] = process.versions.node.split('.').map(Number);

export async function invoke(file, input = {}, options = {}) {
  if (MAJOR < 22 || (MAJOR === 22 && MINOR < 18)) {
    throw new Error(`Node 22.18 or later is needed, as for the service; this is ${process.versions.node}`);
  }
  const path = file instanceof URL || String(file).startsWith('file:') ? fileURLToPath(file) : String(file);
  const suffix = SUFFIXES[extname(path)];
  if (!suffix) throw new TypeError(`${path}: a handler's file ends in ${Object.keys(SUFFIXES).join(', ')}`);
  const given = checked(input, options, basename(path, extname(path)));
  const source = await readFile(path, 'utf8');
  if (!source.trim()) throw new TypeError(`${path}: the source may not be empty`);
  const sandbox = new Sandbox(given);
  try {
    await ready(sandbox);
    return await run(sandbox, source, suffix, given);
  } finally {
    await sandbox.kill();
  }
}

async function ready(sandbox) {
  const frame = await sandbox.next(Date.now() + START_MS);
  if (frame.kind === 'r') return;
  throw new Error(`Node does not start: ${frame.error ?? (sandbox.stderrTail || frame.kind)}`);
}

async function run(sandbox, source, suffix, given) {
  const executionId = given.executionId ?? randomUUID();
  const logs = [];
  const bytes = Buffer.from(given.input);
  sandbox.onLine = ({ time, level, stream, message }) => {
    const ms = time === undefined ? Date.now() : Number(BigInt(time) / 1_000_000n);
    logs.push({ ts: new Date(ms).toISOString(), level, stream, message });
  };

  // From here, as where a sandbox is kept ready: what a start costs depends on the machine alone.
  const begun = performance.now();
  const deadline = Date.now() + given.timeoutMs;
  sandbox.send('L', { source, file: given.functionName + suffix, env: given.env, timeout_ms: given.timeoutMs });
  let phase = 'load';
  let frame = await sandbox.next(deadline);
  if (frame.kind === 'l' && frame.body.ok === true) {
    phase = 'run';
    const context = {
      executionId,
      runId: given.runId ?? executionId,
      functionName: given.functionName,
      collectionPath: given.collectionPath,
      version: given.version,
      deadline,
      traceparent: given.traceparent,
    };
    sandbox.send('R', { context, input: JSON.parse(bytes) });
    frame = await sandbox.next(deadline);
  }
  const duration = performance.now() - begun;
  if (frame.kind !== 'd' && frame.kind !== 'e') await sandbox.kill(); // its last words are logs, too
  const verdict = judge(frame, phase, { ...given, stderr: sandbox.stderrTail });
  return { executionId, ...verdict, data: verdict.output?.data, logs, duration };
}
