import { openSync } from 'node:fs';
let code = null;
let opened = 0;
export function handler() {
  while (code === null && opened < 5000) {
    try {
      openSync(`/tmp/fd-${opened++}`, 'w');
    } catch (error) {
      ({ code } = error);
    }
  }
  return { ok: true, data: { code, bounded: opened < 1024 } };
}
