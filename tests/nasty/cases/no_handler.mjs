export const handle = () => ({ ok: true });
