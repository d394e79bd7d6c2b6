import { readdirSync, writeFileSync, mkdirSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
globalThis.runs ??= 0;
export async function handler() {
  const found = readdirSync('/tmp/.').filter((name) => name.startsWith('left'));
  const answered = await new Promise((resolve) => {
    createConnection('\0lowcode-faas-left')
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
  createServer(() => {}).listen('\0lowcode-faas-left').on('error', () => {});
  return { ok: true, data: { found, answered, runs: ++globalThis.runs } };
}
