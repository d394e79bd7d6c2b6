module.exports = { handler: () => ({ ok: true }) };
