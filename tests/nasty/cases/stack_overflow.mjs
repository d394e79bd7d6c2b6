export function handler() {
  return handler();
}
