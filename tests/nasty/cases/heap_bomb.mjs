export function handler() {
  const kept = [];
  for (;;) kept.push({ n: kept.length, text: `${kept.length}`.repeat(10) });
}
