/**
 * What a lowcode-faas function gets and returns.
 *
 * JavaScript:
 *
 *     /** @type {import('lowcode-faas-runtime').Handler} *\/
 *     export async function handler(input, context) {
 *       return { ok: true, data: { message: `hello ${input.name}` } };
 *     }
 *
 * TypeScript (types only: Node strips them and installs nothing):
 *
 *     import type { Handler } from 'lowcode-faas-runtime';
 *     export const handler: Handler<{ name: string }> = async (input) => ({ ok: true, data: input.name });
 */

/** Any value JSON can hold. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/** The JSON object given as `input` in the invoke request; `{}` when there was none. */
// `any`: what callers send is theirs to decide; name the shape with `Handler<Shape>`.
export type HandlerInput = Record<string, any>;

/** What the run is about. A new one is made for every run. */
export interface HandlerContext {
  /** Names this run; its log lines and its record carry it. */
  readonly executionId: string;
  /** The caller's name for what this run belongs to; several runs may share one. */
  readonly runId: string;
  /** Name of the function. */
  readonly functionName: string;
  /** Collection of the function, such as `org/team`; `""` is the root. */
  readonly collectionPath: string;
  /** Version of the deployment that runs. */
  readonly version: number;
  /** When the run is killed, in milliseconds since the epoch, as `Date.now()` counts. */
  readonly deadline: number;
  /** W3C trace context of the request, to be passed on; null when it brought no legal one. */
  readonly traceparent: string | null;
  /**
   * Aborts shortly before the deadline (a tenth of the time that was left when it was first asked
   * for, at least 20 ms, at most 1 s) with a `TimeoutError`: pass it to `fetch` and the like, and
   * there is still time to return something. It never aborts after the run.
   */
  readonly signal: AbortSignal;
}

/** The function did what it was asked to: the run has the status `succeeded`. */
export interface HandlerSuccess<Data = unknown> {
  ok: true;
  /** Sent to the caller as JSON: `undefined` and functions are left out, `NaN` becomes null. */
  data?: Data;
}

/** The function says that it could not: the run has the status `failed`. */
export interface HandlerFailure {
  ok: false;
  /** For people. */
  error: string;
  /** For programs; any name of your own. */
  code?: string;
}

/** What a handler returns; anything else is the status `invalid_output`. */
export type HandlerResult<Data = unknown> = HandlerSuccess<Data> | HandlerFailure;

/** The function a module exports under the name `handler`. */
export type Handler<Input = HandlerInput, Data = unknown> = (
  input: Input,
  context: HandlerContext,
) => HandlerResult<Data> | Promise<HandlerResult<Data>>;
