export const handler = (input, context) => {
  for (const key of Object.keys(context)) {
    try {
      context[key] = 'forged';
    } catch {}
  }
  return { ok: true, data: 1, execution_id: 'forged', status: 'failed', deployment_version: 99, error: { code: 'timeout' }, usage: 0 };
};
