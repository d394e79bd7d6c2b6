export function handler() {
  return { then() {} };
}
