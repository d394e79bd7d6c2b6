export const handler = () => ({
  ok: true,
  data: {
    nan: NaN,
    infinite: -Infinity,
    undefined: undefined,
    function: () => 1,
    date: new Date(0),
    map: new Map([[1, 2]]),
    set: new Set([1]),
    list: [undefined, Symbol('s')],
    zero: -0,
    __proto__: { inherited: 1 },
  },
});
