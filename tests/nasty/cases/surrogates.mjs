export function handler({ fail }) {
  console.log('lone \ud800 and \udc00, a pair \u{1f600}');
  if (fail) throw new Error('lone \udfff');
  return { ok: true, data: { text: '\ud83d', pair: '\u{1f600}', '\udc00': 1, escaped: '\\ud800', mixed: '\\\ud800' } };
}
