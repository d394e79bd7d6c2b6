// Between runs nothing may move: the count is of ticks, and the pause between the runs has none.
let ticks = 0;
let timer;
export async function handler({ spin }) {
  timer ??= setInterval(() => ticks++, 1);
  if (spin) await new Promise((resolve) => setTimeout(resolve, spin));
  const seen = ticks;
  ticks = 0;
  return { ok: true, data: { few: seen <= 1 } };
}
