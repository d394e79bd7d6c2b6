Array.prototype[Symbol.iterator] = function* () {
  yield 'patched';
};
for (const name of ['push', 'map', 'slice', 'join', 'shift', 'splice', 'forEach', 'indexOf'])
  Array.prototype[name] = () => {
    throw new Error('patched');
  };
Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => {
  throw new Error('patched');
};
export const handler = () => ({ ok: true, data: [1, 2] });
