export function handler() {
  process.abort();
}
