export const handler = () => ({
  get ok() {
    process.exit(0);
  },
});
