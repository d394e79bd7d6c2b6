export function handler() {
  throw Symbol('strange');
}
