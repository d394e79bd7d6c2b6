export function handler() {
  process.exit(0);
}
