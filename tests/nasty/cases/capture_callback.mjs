process.setUncaughtExceptionCaptureCallback(() => {});
export async function handler() {
  setTimeout(() => {
    throw new Error('captured');
  }, 10);
  await new Promise((resolve) => setTimeout(resolve, 60));
  return { ok: true };
}
