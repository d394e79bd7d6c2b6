import '/etc/passwd';
export const handler = () => ({ ok: true });
