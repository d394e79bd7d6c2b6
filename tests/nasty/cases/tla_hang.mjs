await new Promise(() => {});
export const handler = () => ({ ok: true });
