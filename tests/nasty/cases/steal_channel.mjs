import { createRequire } from 'node:module';
import fs from 'node:fs';
const require = createRequire(import.meta.url);
const seen = new Set();
const found = [];
// Everything that can be reached, and every buffer in it, for something of 16 random bytes.
function walk(thing, depth) {
  if ((typeof thing !== 'object' && typeof thing !== 'function') || thing === null || seen.has(thing) || depth > 7) return;
  seen.add(thing);
  if (ArrayBuffer.isView(thing) && thing.byteLength >= 65536) found.push(thing.constructor.name);
  for (const key of Reflect.ownKeys(thing)) {
    const described = Object.getOwnPropertyDescriptor(thing, key);
    if (described && 'value' in described) walk(described.value, depth + 1);
  }
  walk(Object.getPrototypeOf(thing), depth + 1);
}
export function handler() {
  for (const root of [globalThis, process, require, require.cache, fs]) walk(root, 0);
  const argv = [...process.argv, ...process.execArgv, ...Object.keys(process.env)];
  return { ok: true, data: { found, argv: argv.length, walked: seen.size > 500 } };
}
