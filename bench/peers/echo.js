// The echo for what serves `fetch` handlers: workerd and Deno. Computes first when it is told to.
function steps(x) {
  for (let i = 0; i < 1000; i++) x = (Math.imul(x, 31) + i) | 0;
  return x;
}

function spin(loops) {
  let x = 0;
  for (let n = 0; n < loops; n++) x = steps(x);
  return x;
}

export default {
  async fetch(request) {
    if (request.method !== 'POST') return new Response(null, { status: 405 });
    const { input } = await request.json();
    if (typeof input !== 'object' || input === null) return new Response(null, { status: 422 });
    return Response.json({ output: input.loops ? { x: spin(input.loops) } : input });
  },
};
