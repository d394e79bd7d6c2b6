export function handler() {
  throw Object.create(null, { toString: { value: () => { throw 1; } } });
}
