// What the service would refuse before anything runs is refused here with the same reasons.

export const DEFAULTS = {
  env: {},
  timeoutMs: 120_000,
  memoryMb: 256,
  outputBytes: 6 << 20,
  functionName: undefined,
  collectionPath: '',
  version: 1,
  executionId: undefined,
  runId: undefined,
  traceparent: null,
};
export const MAX_TIMEOUT_MS = 900_000;
export const MAX_INPUT_BYTES = 6 << 20;
/** MiB of a sandbox, at least and at most. */
export const MEMORY_MB = [32, 2048];
const NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
const ENV_KEY = /^[A-Za-z_][A-Za-z0-9_]*$/;
/** Variables that run code before the handler does; the platform's own begin with its prefix. */
export const RESERVED = new Set([
  'NODE_OPTIONS', 'NODE_PATH', 'NODE_EXTRA_CA_CERTS', 'NODE_REPL_EXTERNAL_MODULE', 'NODE_V8_COVERAGE',
  'LD_PRELOAD', 'LD_LIBRARY_PATH', 'PATH', 'HOME',
]);
export const PREFIX = 'LOWCODE_FAAS_';

function integer(name, value, least, most) {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be a whole number from ${least} to ${most}`);
  }
}

function checkEnv(env) {
  for (const [key, value] of Object.entries(env)) {
    if (!ENV_KEY.test(key)) throw new TypeError(`env: ${JSON.stringify(key)} is no name of a variable`);
    if (RESERVED.has(key) || key.startsWith(PREFIX)) throw new TypeError(`env: ${key} is reserved for the platform`);
    if (typeof value !== 'string' || value.includes('\0')) throw new TypeError(`env: ${key} must be a string without NUL`);
  }
}

function jsonOf(input) {
  const json = JSON.stringify(input);
  if (json === undefined || json[0] !== '{') throw new TypeError('input must be a JSON object');
  if (Buffer.byteLength(json) > MAX_INPUT_BYTES) throw new RangeError(`input has at most ${MAX_INPUT_BYTES} bytes of JSON`);
  return json;
}

/** Return the options with their defaults and `input` as JSON; throw what names the first wrong one. */
export function checked(input, options, name) {
  for (const key of Object.keys(options)) {
    if (!Object.hasOwn(DEFAULTS, key)) throw new TypeError(`${key} is no option; they are ${Object.keys(DEFAULTS).join(', ')}`);
  }
  const set = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  // A file's name may be none that a function could have.
  const given = { ...DEFAULTS, functionName: NAME.test(name) ? name : 'handler', ...set };
  integer('timeoutMs', given.timeoutMs, 1, MAX_TIMEOUT_MS);
  integer('memoryMb', given.memoryMb, ...MEMORY_MB);
  integer('outputBytes', given.outputBytes, 1, 2 ** 31);
  integer('version', given.version, 1, 2 ** 53 - 1);
  if (!NAME.test(given.functionName)) throw new TypeError('functionName is no name of a function');
  if (given.collectionPath && !given.collectionPath.split('/').every((each) => NAME.test(each))) {
    throw new TypeError('collectionPath is no path of a collection');
  }
  checkEnv(given.env);
  return { ...given, input: jsonOf(input) };
}
