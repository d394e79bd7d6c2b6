export function handler() {
  process.nextTick(() => {
    throw new Error('in a tick');
  });
  return { ok: true };
}
