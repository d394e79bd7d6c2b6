import './nowhere.mjs';
export const handler = () => ({ ok: true });
