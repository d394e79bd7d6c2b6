import * as self from './import_cycle.mjs';
export async function handler() {
  const again = await import('./import_cycle.mjs');
  return { ok: true, data: self.handler === handler && again === self };
}
