type Nothing = undefined;

export function handler(input: { deep?: Nothing }): never {
  throw new Error('typed', { cause: input.deep as Nothing });
}
