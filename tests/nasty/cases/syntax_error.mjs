export function handler() {
  const 5 = 6;
}
