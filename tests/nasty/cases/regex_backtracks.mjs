export function handler() {
  return { ok: /(a+)+$/.test(`${'a'.repeat(60)}!`) };
}
