throw new TypeError('not today');
export const handler = () => ({ ok: true });
