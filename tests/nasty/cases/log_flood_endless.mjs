import { writeSync } from 'node:fs';
export function handler({ raw }) {
  for (;;) {
    if (raw) writeSync(1, `${'y'.repeat(999)}\n`);
    else console.log('y'.repeat(999));
  }
}
