// Whoever has the intrinsics replaced cannot make the text deeper than JSON.stringify makes it, but
// toJSON and rawJSON can put any number in it.
export const handler = () => ({ ok: true, data: JSON.rawJSON?.('1e999') ?? null });
