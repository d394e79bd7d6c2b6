/**
 * A price with tax. The rate comes from the env of the collection shop/eu, the currency from shop.
 *
 * @param {import('lowcode-faas-runtime').HandlerInput} input
 */
export function handler(input) {
  if (typeof input.net !== "number") {
    return { ok: false, error: "net must be a number", code: "bad_net" };
  }
  const rate = Number(process.env.TAX_RATE);
  const gross = Math.round(input.net * (1 + rate) * 100) / 100;
  return { ok: true, data: { gross, currency: process.env.CURRENCY, label: process.env.LABEL } };
}
