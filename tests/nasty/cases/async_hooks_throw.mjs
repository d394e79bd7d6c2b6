import { createHook } from 'node:async_hooks';
const trap = () => {
  throw new Error('from a hook');
};
export async function handler({ hook }) {
  if (hook) createHook({ init: trap, before: trap, after: trap, promiseResolve: trap }).enable();
  await null;
  return { ok: true };
}
