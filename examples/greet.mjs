/** @param {import('lowcode-faas-runtime').HandlerInput} input */
export async function handler(input) {
  const name = typeof input.name === "string" && input.name !== "" ? input.name : "world";
  console.log("greeting", name);
  return { ok: true, data: { message: `hello ${name}` } };
}
