export const handler = ({ kind }) =>
  ({
    twice: { then(done, fail) { done({ ok: true, data: 1 }); done({ ok: true, data: 2 }); fail(new Error('x')); throw new Error('y'); } },
    throws: { get then() { throw new Error('then getter'); } },
    nested: { then(done) { done({ then(again) { again({ ok: true, data: 'deep' }); } }); } },
    endless: { then(done) { done(this); } },
  })[kind];
