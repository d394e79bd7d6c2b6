// Written when the answer is out already: nobody reads it before the next run.
import { writeSync } from 'node:fs';
export async function handler({ wait }) {
  if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
  else setTimeout(() => writeSync(3, Buffer.alloc(64)), 10);
  return { ok: true };
}
