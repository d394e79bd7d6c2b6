// The echo for what serves `fetch` handlers: workerd and Deno.
export default {
  async fetch(request) {
    if (request.method !== 'POST') return new Response(null, { status: 405 });
    const { input } = await request.json();
    if (typeof input !== 'object' || input === null) return new Response(null, { status: 422 });
    return Response.json({ output: input });
  },
};
