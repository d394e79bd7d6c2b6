enum Colour {
  Red,
}
export const handler = () => ({ ok: true, data: Colour.Red });
