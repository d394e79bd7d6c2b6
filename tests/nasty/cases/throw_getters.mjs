export function handler() {
  throw new (class extends Error {
    get message() {
      throw new Error('no message');
    }
    get stack() {
      throw this;
    }
    get cause() {
      throw 5;
    }
    get name() {
      return {};
    }
  })();
}
