export async function handler({ name }) {
  process.kill(process.pid, name);
  await new Promise((resolve) => setTimeout(resolve, 20_000));
  return { ok: true };
}
