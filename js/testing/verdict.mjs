// What one run comes to, judged as the service does it: by what the host saw, not by what is claimed.

const RUN_ERRORS = { handler_error: 'handler_error', invalid_output: 'invalid_output', never_settled: 'crashed' };
const LOAD_ERRORS = {
  syntax_error: 'invalid_handler',
  load_error: 'invalid_handler',
  no_handler: 'invalid_handler',
  never_settled: 'crashed',
};
/** What V8 prints before it aborts for want of heap; with its way to die, that is proof. */
const HEAP_EXHAUSTED = ['JavaScript heap out of memory', 'Fatal process out of memory'];
const ABORTS = ['SIGABRT', 'SIGTRAP', 'SIGILL'];

function failure(status, code, message, phase, stack = null) {
  return { status, output: null, error: { code, message, phase, stack } };
}

function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return { boolean: 'a boolean', string: 'a string', object: 'an object' }[typeof value] ?? 'a number';
}

function ofResult(value) {
  const invalid = (message) => failure('invalid_output', 'invalid_output', message, 'run');
  if (kindOf(value) !== 'an object') return invalid(`handler returned ${kindOf(value)}, not an object`);
  if (value.ok === true) return { status: 'succeeded', output: value, error: null };
  if (value.ok !== false) {
    const said = 'ok' in value ? `\`ok\` is ${kindOf(value.ok)}, not a boolean` : '`ok` is missing';
    return invalid(`handler returned an object in which ${said}`);
  }
  for (const key of ['error', 'code']) {
    if (key in value && typeof value[key] !== 'string') return invalid(`\`${key}\` is ${kindOf(value[key])}, not a string`);
  }
  return { status: 'failed', output: value, error: null };
}

function ofEnd({ code, signal }, phase, stderr) {
  if (ABORTS.includes(signal) && HEAP_EXHAUSTED.some((said) => stderr.includes(said))) {
    return failure('out_of_memory', 'out_of_memory', 'the sandbox ran out of memory; memoryMb gives it more', phase);
  }
  if (signal) return failure('crashed', 'killed', `the sandbox was killed by ${signal}`, phase);
  return failure('crashed', 'exited', `the process exited with code ${code} before the handler was done`, phase);
}

/** Judge the frame that ended a load or a run. */
export function judge(frame, phase, { timeoutMs, outputBytes, stderr }) {
  const { kind, body } = frame;
  if (kind === 'd' || kind === 'D') return ofResult(body);
  if (kind === 'deadline') {
    const what = phase === 'load' ? 'while the module was being loaded' : 'and was killed';
    return failure('timeout', 'timeout', `the invocation ran into its timeout of ${timeoutMs} ms ${what}`, phase);
  }
  if (kind === 'large') {
    return failure('output_too_large', 'output_too_large', `the output is larger than the limit of ${outputBytes} bytes`, 'run');
  }
  if (kind === 'end') return ofEnd(frame, phase, stderr);
  const status = (phase === 'load' ? LOAD_ERRORS : RUN_ERRORS)[body?.code] ?? RUN_ERRORS[body?.code];
  if (status) return failure(status, body.code, body.message, phase, body.stack);
  return failure('crashed', 'protocol_error', `the sandbox sent ${frame.error?.message ?? 'an answer that is none'}`, phase);
}
