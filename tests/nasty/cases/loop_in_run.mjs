export function handler() {
  for (;;);
}
