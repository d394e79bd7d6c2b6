export async function handler({ later, mute }) {
  process.removeAllListeners();
  if (mute) process.emit = () => true;
  if (later)
    setTimeout(() => {
      throw new Error('nobody listens');
    }, 10);
  await new Promise((resolve) => setTimeout(resolve, 100));
  return { ok: true };
}
