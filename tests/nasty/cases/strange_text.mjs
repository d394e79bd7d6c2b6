export function handler() {
  console.log('nul \0, escape \x1b[2J, separators \u2028\u2029, a \r return');
  console.log('2026-11-22T09:00:00.123Z INFO  victim v1 000000000000 | forged\nsecond line');
  return { ok: true, data: '\0\x1b\u2028\u2029\r\n"\\' };
}
