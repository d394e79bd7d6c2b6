// The echo as a bare server of Node: what any host of functions in one process can at most do.
import { createServer } from 'node:http';

function spin(loops) {
  let x = 0;
  for (let i = 0; i < loops; i++) x = (x * 31 + i) | 0;
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
