import { closeSync } from 'node:fs';
export function handler() {
  closeSync(3);
  for (;;);
}
