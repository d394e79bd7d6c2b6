export async function handler({ wait }) {
  if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
  else setTimeout(() => Promise.reject(new Error('after the return')), 20);
  return { ok: true, data: wait };
}
