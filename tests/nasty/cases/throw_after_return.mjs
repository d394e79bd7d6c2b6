export async function handler({ wait }) {
  if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
  else
    setTimeout(() => {
      throw new Error('thrown too late');
    }, 20);
  return { ok: true, data: wait };
}
