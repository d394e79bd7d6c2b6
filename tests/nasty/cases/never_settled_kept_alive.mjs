// Something is left to wait for, so that only the deadline can end it.
export function handler() {
  setInterval(() => {}, 50);
  return new Promise(() => {});
}
