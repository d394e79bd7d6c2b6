import { readSync } from 'node:fs';
export function handler() {
  return { ok: readSync(3, Buffer.alloc(64)) > 0 };
}
