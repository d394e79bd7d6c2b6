await null;
for (;;);
export const handler = () => ({ ok: true });
