Error.prepareStackTrace = () => {
  throw new Error('no stack');
};
Error.stackTraceLimit = Infinity;
export function handler() {
  throw new Error('still told');
}
