/**
 * Loaded into the stand-in before it starts: the platform's host name is this machine, the nodes are unreachable, one port takes
 * connections without ever finishing them, and time can run faster. For whole applies the nodes are one server of the test, and the
 * files that the tool looks for on its own machine are below a directory of the test.
 */
import dns from 'node:dns';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';

type Connect = (this: net.Socket, ...given: unknown[]) => net.Socket;

/** It has many signatures. */
function connectOf(prototype: object): Connect {
  return (prototype as { connect: Connect }).connect;
}

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

const realConnect = connectOf(net.Socket.prototype);
net.Socket.prototype.connect = function connect(this: net.Socket, ...given: unknown[]): net.Socket {
  const [options] = (Array.isArray(given[0]) ? given[0] : given) as [{ host?: string; port?: number | string }];
  const { host = '', port } = options;
  const refuse = (code: string): net.Socket => {
    process.nextTick(() => this.destroy(Object.assign(new Error(code), { code, address: host, port })));
    return this;
  };
  if (host === process.env['TEST_DOWN_HOST']) return refuse('ECONNREFUSED');
  if (host.startsWith('10.0.0.')) return refuse('ENETUNREACH');
  if (host.startsWith('10.77.0.'))
    return realConnect.call(this, { host: '127.0.0.1', port: Number(process.env['TEST_AGENTS_PORT']) });
  if (String(port) === process.env['TEST_DROPPED_PORT']) {
    Object.defineProperty(this, 'connecting', { value: true });
    setImmediate(() => this.emit('lookup', null, '127.0.0.1', 4, host));
    return this;
  }
  return realConnect.apply(this, given);
};

const root = process.env['TEST_ROOT'];
if (root !== undefined) {
  const own = ['/etc/kubernetes/admin.conf', '/etc/lab/proton-cli.json'];
  const moved = <T>(path: T): T | string => (typeof path === 'string' && own.includes(path) ? `${root}${path}` : path);
  const { existsSync, readFileSync, writeFileSync } = fs as unknown as Record<string, (...given: unknown[]) => unknown>;
  Object.assign(fs, {
    existsSync: (path: unknown) => existsSync?.(moved(path)),
    writeFileSync: (path: unknown, ...more: unknown[]) => writeFileSync?.(moved(path), ...more),
    readFileSync: (path: unknown, ...more: unknown[]) => readFileSync?.(moved(path), ...more),
  });
  syncBuiltinESMExports();
}
