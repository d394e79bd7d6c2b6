export const handler = () => ({
  ok: true,
  toJSON() {
    for (;;);
  },
});
