// Threads of Node's own pool are not user code, but work for it.
import { pbkdf2 } from 'node:crypto';
export function handler() {
  for (let n = 0; n < 8; n++) pbkdf2('secret', 'salt', 1e9, 64, 'sha512', () => {});
  for (;;);
}
