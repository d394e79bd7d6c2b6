import { AsyncLocalStorage } from 'node:async_hooks';
AsyncLocalStorage.prototype.run = AsyncLocalStorage.prototype.getStore = () => {
  throw new Error('patched');
};
export const handler = () => ({ ok: true });
