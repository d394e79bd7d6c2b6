export async function handler() {
  process.kill(0, 'SIGKILL');
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  return { ok: true };
}
