import type { HandlerInput, HandlerResult } from "lowcode-faas-runtime";

/** Turns a title into what an address can hold: `Crème brûlée!` becomes `creme-brulee`. */
export function handler(input: HandlerInput): HandlerResult {
  if (typeof input.title !== "string") {
    return { ok: false, error: "title must be a string", code: "bad_title" };
  }
  const slug: string = input.title
    .normalize("NFKD")
    .replace(/\p{Mark}/gu, "")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  return { ok: true, data: { slug } };
}
