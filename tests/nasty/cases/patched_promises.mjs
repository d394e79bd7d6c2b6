Promise.prototype.then = Promise.prototype.catch = () => {
  throw new Error('patched');
};
Object.defineProperty(Promise, Symbol.species, { get: () => { throw new Error('species'); } });
Object.defineProperty(Promise.prototype, 'constructor', { get: () => { throw new Error('constructor'); } });
export const handler = () => ({ ok: true, data: 'still' });
