export async function handler() {
  setTimeout(() => {
    throw new Error('later, but during the run');
  }, 20);
  await new Promise((resolve) => setTimeout(resolve, 5000));
  return { ok: true };
}
