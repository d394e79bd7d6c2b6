// A read left behind on the channel gets the next run's frame instead of the bootstrap.
import { read } from 'node:fs';
export async function handler() {
  read(3, Buffer.alloc(65536), 0, 65536, null, () => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  return { ok: true };
}
