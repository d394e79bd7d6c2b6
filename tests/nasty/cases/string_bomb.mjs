export function handler() {
  const kept = [];
  for (let n = 0; ; n++) kept.push(`${n}`.padEnd(1 << 20, 'x') + Math.random());
}
