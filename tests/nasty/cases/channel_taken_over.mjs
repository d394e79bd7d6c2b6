import { Socket } from 'node:net';
let socket;
export async function handler() {
  socket ??= new Socket({ fd: 3, readable: true, writable: true });
  socket.on('data', () => {}).on('error', () => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  return { ok: true };
}
