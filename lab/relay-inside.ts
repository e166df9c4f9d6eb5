/** relay-inside.ts SOCKET PORT [SOCKET PORT…]: the lab's end of a forwarded port. */
import { connect, createServer } from 'node:net';

const args = process.argv.slice(2);
for (let index = 0; index + 1 < args.length; index += 2) {
  const port = Number(args[index + 1]);
  createServer((client) => {
    const server = connect(port, '127.0.0.1');
    client.pipe(server).pipe(client);
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    client.on('error', end);
    server.on('error', end);
  }).listen(args[index]);
}
