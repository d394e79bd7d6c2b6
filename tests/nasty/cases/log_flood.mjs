export function handler({ lines }) {
  for (let n = 0; n < lines; n++) console.log(`line ${n} of a flood ${'.'.repeat(80)}`);
  return { ok: true };
}
