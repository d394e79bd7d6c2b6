const ring = { ok: true };
ring.ring = ring;
const shapes = {
  undefined: undefined,
  null: null,
  number: 5,
  string: '{"ok":true}',
  array: [{ ok: true }],
  empty: {},
  ok_string: { ok: 'true' },
  ok_number: { ok: 1 },
  ok_boxed: { ok: Object(Symbol('yes')) },
  bigint: { ok: true, data: 1n },
  ring,
  function: () => ({ ok: true }),
  symbol: Symbol('ok'),
  date: new Date(0),
  error_number: { ok: false, error: 5 },
};
export const handler = ({ shape }) => shapes[shape];
