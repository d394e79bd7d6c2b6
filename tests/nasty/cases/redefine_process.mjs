for (const name of Object.getOwnPropertyNames(process)) {
  try {
    process[name] = () => {
      throw new Error('redefined');
    };
  } catch {}
}
globalThis.process = undefined;
globalThis.console = undefined;
export const handler = async ({ fail }) => {
  if (fail) throw new Error('told');
  return { ok: true, data: typeof process };
};
