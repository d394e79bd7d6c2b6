Object.prototype.toJSON = () => ({ ok: true, data: 'polluted' });
String.prototype.toJSON = () => 'polluted';
export function handler({ fail }) {
  if (fail) throw new Error('not polluted');
  console.log('a word');
  return { ok: false, error: 'the truth' };
}
