// The two files of the platform that run inside a sandbox: packed into ./platform, or the checkout's.
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const packed = new URL('./platform/', import.meta.url);
const core = new URL('../../lowcode_faas_core/sandbox/', import.meta.url);

/** The loader, whose one source is a constant in Python. */
export function loaderOf(python) {
  return /^LOADER: Final = """([\s\S]*?)"""$/m.exec(python)[1];
}

function read(folder, name) {
  return readFileSync(fileURLToPath(new URL(name, folder)));
}

/** Return `{loader, bootstrap}`: the source for `node -e`, and the bytes that it reads. */
export function platform() {
  if (existsSync(fileURLToPath(packed))) {
    return { loader: read(packed, 'loader.js').toString(), bootstrap: read(packed, 'bootstrap.cjs') };
  }
  return { loader: loaderOf(read(core, 'loader.py').toString()), bootstrap: read(core, 'bootstrap.cjs') };
}
