for (;;);
export const handler = () => ({ ok: true });
