// A listener that begins something new each time would keep the process from ever ending.
process.on('beforeExit', () => setImmediate(() => {}));
export function handler() {
  return new Promise(() => {});
}
