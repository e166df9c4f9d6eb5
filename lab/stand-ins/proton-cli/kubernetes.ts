import { readFileSync } from 'node:fs';
import { request } from 'node:https';
import { parse } from 'yaml';

interface Kubeconfig {
  'current-context': string;
  contexts: { name: string; context: { cluster: string; user: string } }[];
  clusters: { name: string; cluster: { server: string; 'certificate-authority-data': string } }[];
  users: { name: string; user: { 'client-certificate-data': string; 'client-key-data': string } }[];
}

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

/** Just enough of a Kubernetes client. Without a time limit it waits, as the platform's tool does. */
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

  call<T>(method: string, path: string, body?: object, timeout = 30_000): Promise<T> {
    const patching = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    return new Promise((resolve, reject) => {
      const outgoing = request(
        new URL(path, this.server),
        {
          method,
          ...this.tls,
          headers: { 'content-type': patching, accept: 'application/json' },
          signal: AbortSignal.timeout(timeout),
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
      outgoing.on('error', (error: NodeJS.ErrnoException) => {
        const reason =
          error.code === 'ECONNREFUSED'
            ? 'connect: connection refused'
            : error.name === 'TimeoutError'
              ? 'i/o timeout'
              : error.message;
        const verb = method.charAt(0) + method.slice(1).toLowerCase();
        reject(new Error(`${verb} "${new URL(path, this.server).href}": dial tcp ${this.server.host}: ${reason}`));
      });
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async secret(namespace: string, name: string, timeout?: number): Promise<Secret> {
    return this.call<Secret>('GET', `/api/v1/namespaces/${namespace}/secrets/${name}`, undefined, timeout);
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
