import { writeSync } from 'node:fs';
export function handler({ then }) {
  writeSync(1, Buffer.from([0xf0, 0x9f]));
  process.stdout.write('a half line');
  if (then === 'exit') process.exit(5);
  if (then === 'channel') writeSync(3, Buffer.from([1, 2, 3]));
  return { ok: true };
}
