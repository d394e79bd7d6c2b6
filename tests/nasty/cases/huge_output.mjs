export const handler = ({ mb }) => ({ ok: true, data: 'x'.repeat(mb << 20) });
