// The echo as a function of Google's functions-framework.
import functions from '@google-cloud/functions-framework';

functions.http('echo', (request, response) => {
  const { input } = request.body ?? {};
  if (typeof input !== 'object' || input === null) {
    response.status(422).end();
    return;
  }
  response.json({ output: input });
});
