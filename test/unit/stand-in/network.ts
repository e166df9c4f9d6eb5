/**
 * Loaded into the stand-in before it starts: the platform's host name is this machine, the nodes are unreachable, one port takes
 * connections without ever finishing them, and time can run faster.
 */
import dns from 'node:dns';
import net from 'node:net';

type Connect = (this: net.Socket, ...given: unknown[]) => net.Socket;

const scale = Number(process.env['TEST_TIME_SCALE'] ?? '1');
const realTimeout = globalThis.setTimeout;
globalThis.setTimeout = Object.assign(
  (run: () => void, delay = 0): NodeJS.Timeout => realTimeout(run, delay * scale),
  realTimeout,
);

dns.lookup = ((_name: string, options: { all?: boolean }, done: (error: null, ...found: unknown[]) => void): void => {
  if (options.all === true) done(null, [{ address: '127.0.0.1', family: 4 }]);
  else done(null, '127.0.0.1', 4);
}) as typeof dns.lookup;

// eslint-disable-next-line @typescript-eslint/unbound-method -- it is called with the socket
const realConnect: Connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function connect(this: net.Socket, ...given: unknown[]): net.Socket {
  const [options] = (Array.isArray(given[0]) ? given[0] : given) as [{ host?: string; port?: number | string }];
  const { host = '', port } = options;
  if (host.startsWith('10.0.0.')) {
    const error = Object.assign(new Error('unreachable'), { code: 'ENETUNREACH', address: host, port });
    process.nextTick(() => this.destroy(error));
    return this;
  }
  if (String(port) === process.env['TEST_DROPPED_PORT']) {
    Object.defineProperty(this, 'connecting', { value: true });
    setImmediate(() => this.emit('lookup', null, '127.0.0.1', 4, host));
    return this;
  }
  return realConnect.apply(this, given);
};
