/**
 * Runs a handler's file as the platform would, in a Node of its own with the platform's bootstrap:
 *
 *     import { invoke } from 'lowcode-faas-runtime/testing';
 *     const result = await invoke('greet.mjs', { name: 'you' }, { env: { GREETING: 'ahoy' } });
 *     assert.equal(result.status, 'succeeded');
 */

/** How a run ended; the service uses the same words. */
export type Status =
  | 'succeeded'
  | 'failed'
  | 'handler_error'
  | 'invalid_output'
  | 'output_too_large'
  | 'invalid_handler'
  | 'timeout'
  | 'out_of_memory'
  | 'crashed';

/** One event: a call of `console`, or a line that was written to a stream. */
export interface LogEvent {
  /** RFC 3339, UTC. */
  readonly ts: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly stream: 'stdout' | 'stderr';
  readonly message: string;
}

/** Why a run has no output. */
export interface RunError {
  /** `timeout`, `handler_error`, `syntax_error` and so on. */
  readonly code: string;
  readonly message: string;
  /** Whether the module was being loaded, or the handler ran. */
  readonly phase: 'load' | 'run';
  /** In the lines of the handler's own source. */
  readonly stack: string | null;
}

/** What a run came to. A function's own failure is a result, never an exception. */
export interface RunResult<Data = any> {
  readonly executionId: string;
  readonly status: Status;
  /** What the handler returned as `data`; `undefined` when it returned none, or did not succeed. */
  readonly data: Data | undefined;
  /** All that the handler returned, when it has the form; null otherwise. */
  readonly output: ({ ok: true; data?: Data } | { ok: false; error?: string; code?: string }) | null;
  /** Null when the handler returned something of the form, `{ok: false}` included. */
  readonly error: RunError | null;
  readonly logs: readonly LogEvent[];
  /** Milliseconds that loading the module and running its handler took. */
  readonly duration: number;
}

export interface InvokeOptions {
  /** The handler's `process.env`, all of it. */
  env?: Record<string, string>;
  /** Until the run is killed, from 1 to 900000; default 120000. */
  timeoutMs?: number;
  /** Memory of the sandbox, of which V8's heap gets three quarters, from 32 to 2048; default 256. */
  memoryMb?: number;
  /** Longest result, in bytes of JSON; default 6 MiB. */
  outputBytes?: number;
  /** What the handler's context says; default the file's name. */
  functionName?: string;
  /** Default `''`, the root. */
  collectionPath?: string;
  /** Default 1. */
  version?: number;
  /** Default one that is made up. */
  executionId?: string;
  /** Default the execution's. */
  runId?: string;
  /** Default null. */
  traceparent?: string | null;
}

/**
 * Run the handler of a module once, in a sandbox that is ended afterwards.
 *
 * @param file a path, or a `file:` URL such as `new URL('./greet.mjs', import.meta.url)`; `.mjs` and
 *   `.js` are JavaScript modules, `.mts` and `.ts` TypeScript whose types Node strips
 * @param input a JSON object; default `{}`
 * @returns what the service would answer: also when the handler throws, hangs or ends its process
 * @throws for what the service would refuse: an input that is no object, reserved variables, and so on
 */
export function invoke<Data = any>(
  file: string | URL,
  input?: object,
  options?: InvokeOptions,
): Promise<RunResult<Data>>;
