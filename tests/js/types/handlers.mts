// What the types of a handler let through, and what they do not.
import type {
  Handler,
  HandlerContext,
  HandlerFailure,
  HandlerInput,
  HandlerResult,
  HandlerSuccess,
  Json,
} from 'lowcode-faas-runtime';

export const handler: Handler<{ name: string }, { message: string }> = async (input, context) => {
  if (!input.name) return { ok: false, error: 'a name is missing', code: 'no_name' };
  return { ok: true, data: { message: `${input.name} at ${new Date(context.deadline).toISOString()}` } };
};

export const plain: Handler = (input) => ({ ok: true, data: input.anything.at.all });
export const nothing: Handler = () => ({ ok: true });
export const short: Handler = () => ({ ok: false, error: 'no' });

// @ts-expect-error: what the handler promises is not what it returns
export const wrong: Handler<{ n: number }, number> = (input) => ({ ok: true, data: String(input.n) });
// @ts-expect-error: a failure says why
export const mute: Handler = () => ({ ok: false });
// @ts-expect-error: `ok` is missing
export const bare: Handler = () => ({ data: 1 });
// @ts-expect-error: a code is a name
export const numbered: Handler = () => ({ ok: false, error: 'no', code: 7 });
// @ts-expect-error: nothing is returned
export const empty: Handler = () => {};
// @ts-expect-error: there is no third argument
export const greedy: Handler = (input, context, callback) => ({ ok: true, data: callback });

export function looksAt(context: HandlerContext): string[] {
  // @ts-expect-error: a context is not written to
  context.version = 2;
  // @ts-expect-error: it may be null
  context.traceparent.length;
  // @ts-expect-error: the environment is in process.env
  context.env;
  return [context.executionId, context.runId, context.functionName, context.collectionPath];
}

export function told(result: HandlerResult<number>): number | string {
  if (result.ok) return result.data ?? 0;
  // @ts-expect-error: a failure has no data
  result.data;
  return result.error + (result.code ?? '');
}

export const success: HandlerSuccess<number[]> = { ok: true, data: [1] };
export const failure: HandlerFailure = { ok: false, error: 'no' };
export const input: HandlerInput = { any: { thing: [1, null] } };
export const json: Json = { a: [1, 'b', null, { c: true }] };
// @ts-expect-error: JSON holds no functions
export const code: Json = { a: () => 1 };
// @ts-expect-error: nor dates
export const date: Json = { a: new Date() };
