export function handler() {
  const error = new Error('m'.repeat(5e6), { cause: new Error('c'.repeat(5e6)) });
  error.cause.cause = error;
  throw error;
}
