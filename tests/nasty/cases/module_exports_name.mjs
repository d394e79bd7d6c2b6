// Under require() an export of this name takes the place of the namespace.
const impostor = { handler: () => ({ ok: true, data: 'impostor' }) };
export { impostor as 'module.exports' };
export const handler = () => ({ ok: true, data: 'genuine' });
