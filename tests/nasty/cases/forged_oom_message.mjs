import { writeSync } from 'node:fs';
export function handler() {
  writeSync(2, 'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n');
  process.exit(134);
}
