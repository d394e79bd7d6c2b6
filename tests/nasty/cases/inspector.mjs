import inspector from 'node:inspector';
import { createConnection } from 'node:net';
export async function handler() {
  let code = 'opened';
  try {
    inspector.open(0);
  } catch (error) {
    code = error.code;
  }
  // The signal that makes Node listen for a debugger.
  process.kill(process.pid, 'SIGUSR1');
  await new Promise((resolve) => setTimeout(resolve, 50));
  const listens = await new Promise((resolve) => {
    createConnection(9229, '127.0.0.1')
      .on('connect', () => resolve(true))
      .on('error', () => resolve(false));
  });
  return { ok: true, data: { code, listens, url: inspector.url() ?? null } };
}
