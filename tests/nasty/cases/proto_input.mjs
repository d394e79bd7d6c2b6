export function handler(input) {
  return {
    ok: true,
    data: { polluted: String({}.polluted), own: Object.hasOwn(input, '__proto__'), plain: Object.getPrototypeOf(input) === Object.prototype },
  };
}
