// Node's permission check must not go through what user code can replace.
import fs from 'node:fs';
import path from 'node:path';
for (const [object, ...names] of [
  [path, 'resolve', 'toNamespacedPath', 'normalize'],
  [path.posix, 'resolve', 'toNamespacedPath', 'normalize'],
  [Buffer.prototype, 'utf8Write', 'toString'],
  [String.prototype, 'replace'],
  [process.permission ?? {}, 'has'],
])
  for (const name of names) {
    try {
      object[name] = () => '/tmp/x';
    } catch {}
  }
export function handler() {
  const done = [];
  for (const name of ['/etc/passwd', Buffer.from('/etc/passwd'), '/tmp/../etc/passwd']) {
    try {
      done.push(fs.readFileSync(name).length);
    } catch {}
  }
  return { ok: true, data: done };
}
