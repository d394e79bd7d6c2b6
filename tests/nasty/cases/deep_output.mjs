export function handler({ depth }) {
  let data = 1;
  for (let n = 0; n < depth; n++) data = [data];
  return { ok: true, data };
}
