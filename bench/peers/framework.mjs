// The echo as a function of Google's functions-framework. Computes first when it is told to.
import functions from '@google-cloud/functions-framework';

function steps(x) {
  for (let i = 0; i < 1000; i++) x = (Math.imul(x, 31) + i) | 0;
  return x;
}

function spin(loops) {
  let x = 0;
  for (let n = 0; n < loops; n++) x = steps(x);
  return x;
}

functions.http('echo', (request, response) => {
  const { input } = request.body ?? {};
  if (typeof input !== 'object' || input === null) {
    response.status(422).end();
    return;
  }
  response.json({ output: input.loops ? { x: spin(input.loops) } : input });
});
