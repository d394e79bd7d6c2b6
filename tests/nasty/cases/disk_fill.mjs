import { closeSync, openSync, writeSync } from 'node:fs';
export function handler() {
  const block = Buffer.alloc(1 << 20, 1);
  let code = null;
  let files = 0;
  let written = 0;
  while (code === null && files < 100) {
    let fd;
    try {
      fd = openSync(`/tmp/fill-${files++}`, 'w');
      for (let n = 0; n < 64; n++) written += writeSync(fd, block);
    } catch (error) {
      ({ code } = error);
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }
  return { ok: true, data: { code, bounded: written <= 5 << 20 } };
}
