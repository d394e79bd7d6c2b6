export async function handler({ wait }) {
  if (wait) await new Promise((resolve) => setTimeout(resolve, wait));
  else setTimeout(() => console.log('a late word'), 20);
  console.log(wait ? 'the second run' : 'the first run');
  return { ok: true };
}
