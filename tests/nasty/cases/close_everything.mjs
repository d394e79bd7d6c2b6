import { closeSync } from 'node:fs';
export function handler() {
  for (let fd = 0; fd < 600; fd++) {
    try {
      closeSync(fd);
    } catch {}
  }
  for (;;);
}
