import { Socket } from 'node:net';
export function handler() {
  new Socket({ fd: 3, readable: false, manualStart: true });
  return { ok: true, data: 'x'.repeat(1e6).length };
}
