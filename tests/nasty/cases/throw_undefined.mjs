export async function handler() {
  throw undefined;
}
