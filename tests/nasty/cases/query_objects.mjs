// Looks for the frame token where V8 lists the heap's objects.
import * as v8 from 'node:v8';
import { createRequire } from 'node:module';

export function handler() {
  const ways = [v8.queryObjects, v8.default.queryObjects, process.getBuiltinModule('v8').queryObjects];
  try {
    ways.push(createRequire('/')('v8').queryObjects);
  } catch {
    // Without a require there is one way less.
  }
  return { ok: true, data: ways.map((way) => typeof way) };
}
