import domain from 'node:domain';
export async function handler() {
  const own = domain.create();
  own.on('error', () => {});
  own.run(() => {
    setTimeout(() => {
      throw new Error('in a domain');
    }, 10);
  });
  await new Promise((resolve) => setTimeout(resolve, 60));
  return { ok: true };
}
