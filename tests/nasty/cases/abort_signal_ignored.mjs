export async function handler(input, { signal }) {
  signal.addEventListener('abort', (event) => event.stopImmediatePropagation());
  for (;;) await new Promise((resolve) => setTimeout(resolve, 5));
}
