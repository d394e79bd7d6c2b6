import { createServer } from 'node:net';
export async function handler() {
  setInterval(() => {}, 1000);
  setTimeout(() => {}, 1e9);
  const server = createServer();
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { ok: true, data: 'left open' };
}
