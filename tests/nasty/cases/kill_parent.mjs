export function handler() {
  const hit = [];
  for (const pid of [process.ppid, 1])
    for (const name of ['SIGTERM', 'SIGKILL', 'SIGSTOP']) {
      try {
        process.kill(pid, name);
        hit.push(`${pid === 1 ? 'init' : 'parent'} ${name}`);
      } catch {}
    }
  return { ok: true, data: hit };
}
