// A handler in JavaScript, checked by its comments alone.

/** @type {import('lowcode-faas-runtime').Handler} */
export async function handler(input, context) {
  await fetch(input.url, { signal: context.signal });
  return { ok: true, data: { message: `hello ${input.name}`, version: context.version.toFixed() } };
}

/** @type {import('lowcode-faas-runtime').Handler<{ name: string }>} */
export const forgetful = async (input) => {
  // @ts-expect-error: the input has no such member
  input.nmae;
  return { ok: true };
};

/**
 * @param {import('lowcode-faas-runtime').HandlerInput} input
 * @param {import('lowcode-faas-runtime').HandlerContext} context
 * @returns {import('lowcode-faas-runtime').HandlerResult}
 */
export function sparse(input, context) {
  // @ts-expect-error: a string
  context.deadline.startsWith('2026');
  // @ts-expect-error: neither true nor false
  return { ok: input.ok ? 1 : 0 };
}
