export async function handler(input, { signal }) {
  signal.addEventListener('abort', () => {
    throw new Error('in the listener');
  });
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  return { ok: true };
}
