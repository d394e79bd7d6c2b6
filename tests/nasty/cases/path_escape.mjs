import fs from 'node:fs';
import { pathToFileURL } from 'node:url';
import v8 from 'node:v8';
// Not there where the runner denies it; then there is nothing to try.
const { DatabaseSync } = process.getBuiltinModule('node:sqlite') ?? {};

export async function handler() {
  const done = [];
  const around = '/tmp/../etc/passwd';
  fs.mkdirSync('/tmp/inner', { recursive: true });
  const tries = {
    dots: () => fs.readFileSync(around),
    buffer: () => fs.readFileSync(Buffer.from(around)),
    bytes: () => fs.readFileSync(new Uint8Array(Buffer.from(around))),
    url: () => fs.readFileSync(pathToFileURL('/etc/passwd')),
    proc: () => fs.readFileSync('/tmp/inner/../../proc/self/root/etc/passwd'),
    fd: () => fs.readdirSync('/proc/self/fd'),
    symlink: () => {
      fs.symlinkSync('/etc/passwd', '/tmp/inner/link');
      fs.readFileSync('/tmp/inner/link');
    },
    relative_symlink: () => {
      fs.symlinkSync('../../etc/passwd', '/tmp/inner/relative');
      fs.readFileSync('/tmp/inner/relative');
    },
    hardlink: () => fs.linkSync('/etc/passwd', '/tmp/inner/hard'),
    rename: () => fs.renameSync('/etc/passwd', '/tmp/inner/moved'),
    copy: () => fs.cpSync('/etc', '/tmp/inner/etc', { recursive: true }),
    opendir: () => fs.opendirSync('/etc'),
    statfs: () => fs.readFileSync('/etc/../etc/hostname'),
    report: () => {
      process.report.writeReport('/var/tmp/report.json');
      if (!fs.existsSync('/var/tmp/report.json')) throw new Error('not written');
    },
    snapshot: () => v8.writeHeapSnapshot('/var/tmp/heap'),
    sqlite: () => new DatabaseSync('/var/tmp/escape.db').exec('create table t (n)'),
    attach: () => new DatabaseSync('/tmp/inner/a.db').exec("attach '/var/tmp/attached.db' as b; create table b.t (n)"),
  };
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      attempt();
      done.push(name);
    } catch {}
  }
  try {
    await fs.promises.readFile(Buffer.from(around));
    done.push('promise');
  } catch {}
  return { ok: true, data: done };
}
