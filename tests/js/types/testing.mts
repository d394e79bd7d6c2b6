// What the types of the helper let through, and what they do not.
import { invoke, type InvokeOptions, type RunResult, type Status } from 'lowcode-faas-runtime/testing';

const options: InvokeOptions = { env: { A: '1' }, timeoutMs: 100, memoryMb: 64, collectionPath: 'org/team', version: 2 };
const result: RunResult<{ message: string }> = await invoke('greet.mjs', { name: 'you' }, options);
await invoke(new URL('./greet.mjs', import.meta.url));

export const message: string | undefined = result.data?.message;
export const status: Status = result.status;
export const lines: string[] = result.logs.filter((each) => each.level === 'warn').map((each) => each.message);
export const took: number = result.duration;
export const why: string = result.error ? `${result.error.code} in ${result.error.phase}: ${result.error.stack}` : '';

// @ts-expect-error: there is no such status
result.status === 'ok';
// @ts-expect-error: there may be no data
result.data.message;
// @ts-expect-error: there may be no error
result.error.code;
// @ts-expect-error: a result is not written to
result.status = 'failed';
// @ts-expect-error: there is no such level
result.logs[0]?.level === 'notice';
// @ts-expect-error: a file is needed
await invoke();
// @ts-expect-error: an input is an object
await invoke('greet.mjs', 'you');
// @ts-expect-error: values of env are strings
await invoke('greet.mjs', {}, { env: { A: 1 } });
// @ts-expect-error: there is no such option
await invoke('greet.mjs', {}, { timeout: 100 });
// @ts-expect-error: nothing is exported under this name
await import('lowcode-faas-runtime/testing').then((module) => module.Sandbox);
