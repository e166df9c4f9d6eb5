import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { parse } from 'yaml';

interface Kubeconfig {
  'current-context': string;
  contexts: { name: string; context: { cluster: string; user: string } }[];
  clusters: { name: string; cluster: { server: string; 'certificate-authority-data': string } }[];
  users: { name: string; user: { 'client-certificate-data': string; 'client-key-data': string } }[];
}

const reasons: Record<string, string> = {
  ECONNREFUSED: 'connect: connection refused',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
};

export class ApiStatus extends Error {
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

export interface Secret {
  metadata: { name: string; namespace: string; resourceVersion?: string };
  data?: Record<string, string>;
  type?: string;
}

export interface NodeObject {
  metadata: { name: string; labels?: Record<string, string> };
}

/** How long the platform's client waits for a connection, and then for its encryption; for the answer it has no limit. */
const limits = { dial: 30_000, handshake: 10_000 } as const;

/** Just enough of a Kubernetes client. */
export class Kubernetes {
  private readonly server: URL;
  private readonly tls: { ca: Buffer; cert: Buffer; key: Buffer };

  constructor(kubeconfig: string) {
    const config = parse(readFileSync(kubeconfig, 'utf8')) as Kubeconfig;
    const context = config.contexts.find(({ name }) => name === config['current-context'])?.context;
    const cluster = config.clusters.find(({ name }) => name === context?.cluster)?.cluster;
    const account = config.users.find(({ name }) => name === context?.user)?.user;
    if (cluster === undefined || account === undefined)
      throw new Error('invalid configuration: no configuration has been provided');
    this.server = new URL(cluster.server);
    const decode = (text: string): Buffer => Buffer.from(text, 'base64');
    this.tls = {
      ca: decode(cluster['certificate-authority-data']),
      cert: decode(account['client-certificate-data']),
      key: decode(account['client-key-data']),
    };
  }

  /** `deadline`: milliseconds for everything together. */
  call<T>(method: string, path: string, body?: object, deadline?: number): Promise<T> {
    const patching = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    return new Promise((resolve, reject) => {
      const outgoing = request(
        new URL(path, this.server),
        {
          method,
          ...this.tls,
          headers: { 'content-type': patching, accept: 'application/json' },
        },
        (response) => {
          let text = '';
          response.on('data', (chunk: Buffer) => (text += chunk.toString()));
          response.on('error', reject);
          response.on('end', () => {
            const answer = JSON.parse(text === '' ? '{}' : text) as T & { message?: string };
            const status = response.statusCode ?? 0;
            if (status >= 400) reject(new ApiStatus(status, answer.message ?? `status ${status}`));
            else resolve(answer);
          });
        },
      );
      const url = new URL(path, this.server);
      const verb = method.charAt(0) + method.slice(1).toLowerCase();
      const fail = (reason: string): Error => new Error(`${verb} "${url.href}": ${reason}`);
      const timers = new Set<NodeJS.Timeout>();
      const limit = (milliseconds: number, reason: () => string): NodeJS.Timeout => {
        const timer = setTimeout(() => outgoing.destroy(fail(reason())), milliseconds);
        timers.add(timer);
        return timer;
      };
      outgoing.on('close', () => timers.forEach((timer) => clearTimeout(timer)));
      if (deadline !== undefined) limit(deadline, () => 'context deadline exceeded');
      outgoing.on('socket', (socket) => {
        if (!socket.connecting) return;
        let address = url.hostname;
        const port = url.port || '443';
        socket.once('lookup', (_error: Error | null, found: string) => (address = found));
        const dialling = limit(limits.dial, () => `dial tcp ${address}:${port}: i/o timeout`);
        socket.once('connect', () => {
          clearTimeout(dialling);
          const handshake = limit(limits.handshake, () => 'net/http: TLS handshake timeout');
          socket.once('secureConnect', () => clearTimeout(handshake));
        });
      });
      outgoing.on('error', (error: NodeJS.ErrnoException & { address?: string; port?: number }) => {
        if (error.code === undefined) {
          reject(error);
          return;
        }
        const reason = reasons[error.code] ?? error.message;
        reject(fail(`dial tcp ${error.address ?? url.hostname}:${error.port ?? url.port}: ${reason}`));
      });
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async secret(namespace: string, name: string, deadline?: number): Promise<Secret> {
    if (namespace === '') throw new Error('an empty namespace may not be set when a resource name is provided');
    return this.call<Secret>('GET', `/api/v1/namespaces/${namespace}/secrets/${name}`, undefined, deadline);
  }

  /** Creates or updates; other keys are kept. */
  async putSecret(namespace: string, name: string, values: Record<string, string>): Promise<void> {
    const data = Object.fromEntries(
      Object.entries(values).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    );
    const path = `/api/v1/namespaces/${namespace}/secrets`;
    try {
      await this.call('PATCH', `${path}/${name}`, { data });
    } catch (error) {
      if (!(error instanceof ApiStatus) || error.code !== 404) throw error;
      await this.call('POST', path, {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name, namespace },
        type: 'Opaque',
        data,
      });
    }
  }

  async nodes(): Promise<NodeObject[]> {
    return (await this.call<{ items: NodeObject[] }>('GET', '/api/v1/nodes')).items;
  }
}
