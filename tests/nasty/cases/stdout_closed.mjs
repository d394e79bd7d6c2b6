import { closeSync } from 'node:fs';
export function handler() {
  for (const fd of [1, 2]) {
    try {
      closeSync(fd);
    } catch {}
  }
  console.log('by the channel');
  return { ok: true };
}
