import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
export function handler() {
  const done = [];
  const tries = {
    setuid: () => process.setuid(0) ?? process.setuid(1),
    setgid: () => process.setgid(1),
    setgroups: () => process.setgroups([0, 1]),
    initgroups: () => process.initgroups('root', 0),
    priority: () => os.setPriority(-20),
    shadow: () => readFileSync('/etc/shadow'),
    environ: () => readFileSync('/proc/1/environ'),
    memory: () => readFileSync('/proc/self/mem'),
    maps: () => readFileSync('/proc/self/maps'),
    device: () => statSync('/dev/sda'),
    sysrq: () => writeFileSync('/proc/sysrq-trigger', 'x'),
    hostname: () => writeFileSync('/proc/sys/kernel/hostname', 'x'),
    cgroup: () => writeFileSync('/sys/fs/cgroup/cgroup.procs', '1'),
    docker: () => statSync('/var/run/docker.sock'),
    data: () => readdirSync('/'),
    chdir: () => process.chdir('/etc'),
  };
  for (const [name, attempt] of Object.entries(tries)) {
    try {
      attempt();
      if (name !== 'chdir') done.push(name);
    } catch {}
  }
  return { ok: true, data: done };
}
