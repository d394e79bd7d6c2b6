// Before and after `npm pack`: the platform's own files go into the package and out of the checkout,
// so that the checkout has one of each.
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { loaderOf } from '../testing/platform.mjs';

const at = (name) => fileURLToPath(new URL(name, import.meta.url));

if (process.argv[2] === 'remove') {
  rmSync(at('../testing/platform'), { recursive: true, force: true });
  rmSync(at('../LICENSE'), { force: true });
} else {
  const core = '../../lowcode_faas_core/sandbox/';
  mkdirSync(at('../testing/platform'), { recursive: true });
  copyFileSync(at(`${core}bootstrap.cjs`), at('../testing/platform/bootstrap.cjs'));
  writeFileSync(at('../testing/platform/loader.js'), loaderOf(readFileSync(at(`${core}loader.py`), 'utf8')));
  copyFileSync(at('../../LICENSE'), at('../LICENSE'));
}
