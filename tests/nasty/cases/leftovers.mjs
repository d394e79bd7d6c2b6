import { readdirSync, writeFileSync, mkdirSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
globalThis.runs ??= 0;
// Two services run this at a time, as root and as nobody, and sandboxes share the machine's network.
// Those of root have high user ids of their own.
const NAME = `\0lowcode-faas-left-${process.getuid() > 65534}`;
export async function handler() {
  const found = readdirSync('/tmp/.').filter((name) => name.startsWith('left'));
  // The sandbox before this one is killed when its answer goes out; its socket is gone a moment later.
  await new Promise((resolve) => setTimeout(resolve, 200));
  const answered = await new Promise((resolve) => {
    createConnection(NAME)
      .on('connect', () => resolve(true))
      .on('error', () => resolve(false));
  });
  for (const folder of ['/tmp', '/var/tmp', '/dev/shm', '/run']) {
    try {
      mkdirSync(`${folder}/left`, { recursive: true });
      writeFileSync(`${folder}/left/file`, 'left');
      if (folder !== '/tmp') found.push(folder);
    } catch {}
  }
  createServer(() => {}).listen(NAME).on('error', () => {});
  return { ok: true, data: { found, answered, runs: ++globalThis.runs } };
}
