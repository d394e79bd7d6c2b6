for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT']) process.on(name, () => {});
export function handler() {
  setInterval(() => {}, 10);
  for (const name of ['SIGTERM', 'SIGHUP']) process.kill(process.pid, name);
  return new Promise(() => {});
}
