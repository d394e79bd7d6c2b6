Date.now = () => 0;
performance.now = () => -1;
process.hrtime.bigint = () => 0n;
export function handler() {
  console.log('what time is it');
  return { ok: true };
}
