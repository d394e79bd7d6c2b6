const plain = { ok: true, data: [1] };
const trap = () => {
  throw new Error('trapped');
};
export const handler = ({ kind }) =>
  ({
    plain: new Proxy(plain, {}),
    endless: new Proxy({}, { ownKeys: () => ['ok', 'next'], getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true, value: 1 }), get: (_, key) => (key === 'ok' ? true : key === 'toJSON' || key === 'then' ? undefined : handler({ kind })) }),
    throwing: new Proxy(plain, { get: (target, key) => (key === 'then' ? undefined : trap()) }),
    lying: new Proxy(plain, { get: (target, key) => (key === 'toJSON' ? () => ({ ok: 'no' }) : key === 'then' ? undefined : target[key]) }),
  })[kind];
