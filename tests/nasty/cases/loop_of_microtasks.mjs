export async function handler() {
  for (;;) await null;
}
