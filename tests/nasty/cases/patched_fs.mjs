import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
for (const name of Object.keys(fs)) {
  try {
    fs[name] = () => {
      throw new Error('patched');
    };
  } catch {}
}
syncBuiltinESMExports();
export const handler = () => ({ ok: true, data: 'fs is gone' });
