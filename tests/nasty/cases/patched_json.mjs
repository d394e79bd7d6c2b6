JSON.stringify = () => '{"ok":true,"data":"patched"}';
JSON.parse = () => ({ patched: true });
export const handler = (input) => ({ ok: true, data: input });
