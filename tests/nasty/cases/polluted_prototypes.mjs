for (const [name, value] of Object.entries({ ok: true, code: 'EAGAIN', message: 'p', get: undefined, retire: true, then: undefined }))
  Object.prototype[name] = value;
export const handler = ({ give }) => (give ? { ok: false, error: 'given' } : {});
