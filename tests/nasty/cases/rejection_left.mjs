export function handler() {
  Promise.reject(new Error('left behind'));
  return { ok: true };
}
