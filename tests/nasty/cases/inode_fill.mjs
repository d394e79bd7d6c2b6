import { writeFileSync } from 'node:fs';
export function handler() {
  let code = null;
  let files = 0;
  while (code === null && files < 20_000) {
    try {
      writeFileSync(`/tmp/inode-${files++}`, '');
    } catch (error) {
      ({ code } = error);
    }
  }
  return { ok: true, data: { code, bounded: files <= 1024 } };
}
