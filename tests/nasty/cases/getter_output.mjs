let reads = 0;
export const handler = ({ fail }) => ({
  get ok() {
    if (fail) throw new Error('the getter throws');
    return ++reads % 2 === 1;
  },
  get data() {
    return reads;
  },
});
