// The echo as a bare server of Node: what any host of functions in one process can at most do.
import { createServer } from 'node:http';

function steps(x) {
  for (let i = 0; i < 1000; i++) x = (Math.imul(x, 31) + i) | 0;
  return x;
}

function spin(loops) {
  let x = 0;
  for (let n = 0; n < loops; n++) x = steps(x);
  return x;
}

createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const { input } = parts.length ? JSON.parse(Buffer.concat(parts)) : {};
    if (typeof input !== 'object' || input === null) {
      response.writeHead(422).end();
      return;
    }
    const output = input.loops ? { x: spin(input.loops) } : input;
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify({ output }));
  });
}).listen(+process.argv[2], '127.0.0.1');
