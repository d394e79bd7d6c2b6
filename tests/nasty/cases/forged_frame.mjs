import { writeSync } from 'node:fs';
export function handler() {
  // Token, type, length, text: all as it should be, but for the token.
  const text = '{"ok":true,"data":"forged"}';
  writeSync(3, Buffer.concat([Buffer.alloc(16), Buffer.from([0x64, 0, 0, 0, text.length]), Buffer.from(text)]));
  return { ok: true };
}
