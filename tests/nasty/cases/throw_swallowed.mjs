process.on('uncaughtException', () => {});
process.on('unhandledRejection', () => {});
process.setUncaughtExceptionCaptureCallback?.(null);
export async function handler() {
  setTimeout(() => {
    throw new Error('swallowed?');
  }, 10);
  await new Promise((resolve) => setTimeout(resolve, 5000));
  return { ok: true };
}
