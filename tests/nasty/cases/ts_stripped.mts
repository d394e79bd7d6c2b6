interface Input {
  n: number;
}
export const handler = ({ n }: Input): { ok: true; data: number } => ({ ok: true, data: n satisfies number });
