import v8 from 'node:v8';
v8.setFlagsFromString('--max-old-space-size=100000');
v8.setFlagsFromString('--max-heap-size=100000');
export function handler() {
  const kept = [];
  for (;;) kept.push(new Array(1000).fill(kept.length));
}
