const trap = () => {
  throw new Error('trapped');
};
export function handler() {
  const caught = [];
  for (const value of [new Proxy({}, { get: trap, ownKeys: trap }), { [Symbol.for('nodejs.util.inspect.custom')]: trap }, { toString: trap }, Object.create(null)]) {
    try {
      console.log(value);
      console.log('%s %d %j', value, value, value);
    } catch (error) {
      caught.push(error.message);
    }
  }
  console.log('%s'.repeat(1000));
  console.error('the end');
  return { ok: true };
}
