/**
 * Waits, and stops waiting when the platform says that the deadline is near.
 *
 * @param {import('lowcode-faas-runtime').HandlerInput} input
 * @param {import('lowcode-faas-runtime').HandlerContext} context
 */
export async function handler(input, context) {
  const wanted = Number.isFinite(input.ms) ? input.ms : 100;
  const begun = Date.now();
  const inTime = await new Promise((resolve) => {
    const timer = setTimeout(resolve, wanted, true);
    context.signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve(false);
    });
  });
  const waited = Date.now() - begun;
  if (!inTime) {
    return { ok: false, error: `stopped after ${waited} ms of ${wanted}`, code: "deadline" };
  }
  return { ok: true, data: { waited } };
}
