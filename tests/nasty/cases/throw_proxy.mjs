const trap = () => {
  throw new Error('trapped');
};
export function handler() {
  throw new Proxy({}, { get: trap, has: trap, ownKeys: trap, getPrototypeOf: trap, getOwnPropertyDescriptor: trap });
}
