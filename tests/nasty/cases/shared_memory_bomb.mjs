export function handler() {
  const kept = [];
  for (;;) {
    const shared = new Uint8Array(new SharedArrayBuffer(4 << 20));
    kept.push(shared.fill(1));
  }
}
