/* Small HTTPS servers in the place of API servers, each with a certificate of a CA made for the test. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttps, type Server } from 'node:https';
import { createServer as createTcp, type Server as TcpServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';

export class Authority {
  readonly directory = mkdtempSync(join(tmpdir(), 'ferry-ca-'));

  constructor() {
    this.#openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', 'ca.key');
    this.#openssl('req', '-x509', '-new', '-key', 'ca.key', '-subj', '/CN=test-ca', '-days', '2', '-out', 'ca.crt');
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.directory, stdio: 'ignore' });
  }

  get certificate(): string {
    return readFileSync(join(this.directory, 'ca.crt'), 'utf8');
  }

  /** A server's key and certificate for these alternative names, such as `IP:127.0.0.2`. */
  issue(name: string, alternatives: string, days = 2): { key: string; cert: string } {
    this.#openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', `${name}.key`);
    this.#openssl('req', '-new', '-key', `${name}.key`, '-subj', '/CN=kube-apiserver', '-out', `${name}.csr`);
    writeFileSync(join(this.directory, `${name}.ext`), `subjectAltName=${alternatives}\n`);
    const ca = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', String(days)];
    this.#openssl('x509', '-req', '-in', `${name}.csr`, ...ca, '-extfile', `${name}.ext`, '-out', `${name}.crt`);
    const read = (kind: string): string => readFileSync(join(this.directory, `${name}.${kind}`), 'utf8');
    return { key: read('key'), cert: read('crt') };
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** ready; frozen: accepts connections and says nothing; silent: takes requests and says nothing; breaking: takes them and hangs up. */
export type Mood = 'ready' | 'frozen' | 'silent' | 'breaking';

export class FakeApiServer {
  mood: Mood = 'ready';
  cluster = 'cluster-1';
  nodes: string[] = [];
  /** What is answered to everything but the questions about cluster and nodes. */
  status = 200;
  /** Milliseconds before an answer. */
  delay = 0;
  /** `GET /path` of all but the questions about cluster and nodes. */
  readonly taken: string[] = [];
  readonly address: string;
  readonly port: number;
  readonly #https: Server;
  readonly #tcp: TcpServer;
  readonly #sockets = new Set<Socket>();

  constructor(address: string, port: number, pair: { key: string; cert: string }) {
    this.address = address;
    this.port = port;
    this.#https = createHttps(pair, (request, response) => this.#take(request, response));
    this.#https.on('upgrade', (request: IncomingMessage, socket: Socket) => this.#upgrade(request, socket));
    this.#https.on('tlsClientError', () => undefined);
    this.#tcp = createTcp((socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => undefined);
      if (this.mood !== 'frozen') this.#https.emit('connection', socket);
    });
  }

  get url(): string {
    return `https://${this.address}:${this.port}`;
  }

  async start(): Promise<this> {
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once('error', reject).listen(this.port, this.address, resolve);
    });
    return this;
  }

  /** From now on connections are refused; those that stand break. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#tcp.listening) await new Promise((resolve) => this.#tcp.close(resolve));
  }

  #take(request: IncomingMessage, response: ServerResponse): void {
    const { method = '', url = '' } = request;
    const answer = (status: number, body: unknown): void => {
      setTimeout(() => {
        if (this.mood === 'silent' || this.mood === 'frozen') return;
        response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
      }, this.delay).unref();
    };
    request.resume().on('end', () => {
      const isIdentity = url === '/api/v1/namespaces/kube-system';
      const isNodes = url.startsWith('/api/v1/nodes?');
      if (!isIdentity && !isNodes) this.taken.push(`${method} ${url}`);
      if (this.mood === 'breaking' && !isIdentity) request.socket.destroy();
      else if (isIdentity) answer(200, { metadata: { name: 'kube-system', uid: this.cluster } });
      else if (isNodes) answer(200, { items: this.nodes.map(nodeAt) });
      else if (this.status === 200) answer(200, { items: [], served: this.address });
      else answer(this.status, { message: `trouble at ${this.address}` });
    });
  }

  /** A port-forward whose pod says "hello". */
  #upgrade(request: IncomingMessage, socket: Socket): void {
    this.taken.push(`UPGRADE ${request.url ?? ''}`);
    if (this.mood !== 'ready') return;
    const key = `${request.headers['sec-websocket-key'] ?? ''}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
    const accept = createHash('sha1').update(key).digest('base64');
    socket.write(
      [
        'HTTP/1.1 101 Switching Protocols',
        'Upgrade: websocket',
        'Connection: Upgrade',
        `Sec-WebSocket-Accept: ${accept}`,
        'Sec-WebSocket-Protocol: v4.channel.k8s.io',
        '\r\n',
      ].join('\r\n'),
    );
    const frame = (...body: number[]): Buffer => Buffer.from([0x82, body.length, ...body]);
    // The first frame of a stream names its port.
    setTimeout(() => {
      socket.write(frame(0, 1, 2));
      socket.write(frame(0, ...Buffer.from('hello')));
    }, 20);
  }
}

function nodeAt(address: string): object {
  return {
    metadata: { name: `node-${address}`, labels: { 'node-role.kubernetes.io/control-plane': '' } },
    status: { addresses: [{ type: 'InternalIP', address }] },
  };
}

export function kubeConfigOf(server: string, authority: Authority, more: { tlsServerName?: string } = {}): KubeConfig {
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    {
      name: 'test',
      server,
      caData: Buffer.from(authority.certificate).toString('base64'),
      skipTLSVerify: false,
      ...more,
    },
    { name: 'user', token: 'invented' },
  );
  return config;
}
