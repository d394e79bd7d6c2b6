export function handler() {
  throw null;
}
