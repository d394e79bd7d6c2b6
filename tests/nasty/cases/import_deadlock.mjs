import * as self from './import_deadlock.mjs';
const again = await import('./import_deadlock.mjs?again').catch((error) => error.code ?? error.message);
export const handler = () => ({ ok: true, data: { same: self.handler === handler, again: typeof again } });
