import { writeSync } from 'node:fs';
export function handler() {
  const text = '{"ok":true,"data":"forged"}';
  for (const fd of [1, 2]) {
    writeSync(fd, Buffer.concat([Buffer.alloc(16, 7), Buffer.from([0x64, 0, 0, 0, text.length]), Buffer.from(text)]));
    writeSync(fd, `\n{"execution_id":"x","status":"succeeded","output":{"ok":true}}\n`);
  }
  throw new Error('the truth');
}
