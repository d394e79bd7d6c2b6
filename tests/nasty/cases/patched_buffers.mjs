const seen = [];
const typed = Object.getPrototypeOf(Uint8Array.prototype);
for (const name of ['set', 'subarray', 'slice', 'copyWithin', 'fill'])
  typed[name] = function () {
    seen.push(this);
    throw new Error('patched');
  };
for (const name of ['write', 'utf8Write', 'utf8Slice', 'toString', 'copy', 'asciiSlice', 'latin1Slice'])
  Buffer.prototype[name] = function () {
    seen.push(this);
    return 0;
  };
export const handler = () => ({ ok: true, data: seen.length });
