import { createServer, createConnection } from 'node:net';
export async function handler() {
  const server = createServer(() => {});
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address();
  const codes = new Set();
  server.on('error', (error) => codes.add(error.code));
  for (let n = 0; n < 800; n++) createConnection(port, '127.0.0.1').on('error', (error) => codes.add(error.code));
  await new Promise((resolve) => setTimeout(resolve, 300));
  return { ok: true, data: codes.size > 0 };
}
