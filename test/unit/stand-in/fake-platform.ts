/** A cluster and its nodes' agents, as far as apply asks them: real state, recorded exit codes. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Certificate, type Listening, serveHttps } from './fake-kubernetes.ts';

export interface AgentCall {
  command?: string;
  POST?: string;
  exit?: number;
}

export interface Effects {
  agent?: AgentCall[];
  slb?: { m: string; p: string; cs?: string[] }[];
}

interface Answer {
  status: number;
  body: unknown;
}

const notFound: Answer = { status: 404, body: { message: 'not found' } };

export class FakePlatform {
  /** Name and whether it has the label of a control plane. */
  readonly nodes = new Map<string, boolean>();
  readonly cronJobs = new Set<string>();
  readonly calls = new Map<string, string[]>();
  readonly backends = new Map<string, string[]>();
  configuration: string;
  private readonly names: Map<string, string>;
  private readonly effects: Record<string, Effects>;
  private readonly hasVersionedConfig: boolean;

  constructor(given: {
    configuration: string;
    /** Addresses and names of all machines. */
    names: Map<string, string>;
    effects: Record<string, Effects>;
    hasVersionedConfig: boolean;
  }) {
    this.configuration = given.configuration;
    this.names = given.names;
    this.effects = given.effects;
    this.hasVersionedConfig = given.hasVersionedConfig;
  }

  serveApi(certificate: Certificate): Promise<Listening> {
    return serveHttps(certificate, (request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const { status, body } = this.api(request.method ?? '', request.url ?? '', text);
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      });
    });
  }

  serveAgents(): Promise<Listening> {
    const server = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const { hostname, port, pathname, searchParams } = new URL(request.url ?? '', `http://${request.headers.host}`);
        const name = this.names.get(hostname) ?? hostname;
        const { status, body } =
          port === '9547' ? this.slb(name, request.method ?? '', text) : this.agent(name, pathname, searchParams);
        response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
        response.end(JSON.stringify(body));
      });
    });
    return new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () =>
        resolve({ port: (server.address() as AddressInfo).port, close: () => server.close() }),
      );
    });
  }

  private api(method: string, path: string, text: string): Answer {
    const last = path.split('/').at(-1) ?? '';
    if (path === '/version') return { status: 200, body: { major: '1', minor: '34' } };
    if (path.includes('/configmaps/')) {
      const isThere = this.hasVersionedConfig || last === 'kubelet-config';
      return isThere ? { status: 200, body: {} } : { status: 404, body: { message: `configmaps "${last}" not found` } };
    }
    if (path.includes('/cronjobs')) {
      if (method === 'GET') return this.cronJobs.has(last) ? { status: 200, body: {} } : notFound;
      this.cronJobs.add((JSON.parse(text) as { metadata: { name: string } }).metadata.name);
      return { status: 201, body: {} };
    }
    if (path.startsWith('/api/v1/nodes')) {
      if (method === 'PATCH') this.nodes.set(last, true);
      const labels = { 'node-role.kubernetes.io/control-plane': '' };
      const items = [...this.nodes].map(([name, isMaster]) => ({ metadata: { name, labels: isMaster ? labels : {} } }));
      return { status: 200, body: { items } };
    }
    if (path === '/api/v1/namespaces/proton/secrets/proton-cli-config') {
      const key = 'ClusterConfiguration';
      if (method === 'PATCH') {
        const { data } = JSON.parse(text) as { data: Record<string, string> };
        this.configuration = Buffer.from(data[key] ?? '', 'base64').toString();
      }
      return { status: 200, body: { data: { [key]: Buffer.from(this.configuration).toString('base64') } } };
    }
    return notFound;
  }

  private slb(name: string, method: string, text: string): Answer {
    if (method === 'GET') return { status: 200, body: {} };
    const { conf } = JSON.parse(text) as { conf: { backend: Record<string, { server: string[] }> } };
    this.backends.set(name, conf.backend['cs']?.server ?? []);
    return { status: method === 'POST' ? 409 : 204, body: null };
  }

  private agent(name: string, path: string, query: URLSearchParams): Answer {
    const calls = this.calls.get(name) ?? [];
    this.calls.set(name, calls);
    if (!path.endsWith('/exec')) {
      calls.push(`POST ${query.get('path') ?? ''}${query.has('directory') ? ' (directory)' : ''}`);
      return { status: 201, body: '' };
    }
    const argv = query.getAll('command');
    const command = argv.join(' ');
    calls.push(command);
    const exit = this.effects[name]?.agent?.find((call) => call.command === command)?.exit ?? 0;
    if (exit === 0) this.run(name, argv);
    return { status: 200, body: { exit, stdout: command === 'hostname' ? `${name}\n` : '' } };
  }

  private run(name: string, argv: readonly string[]): void {
    const [tool, verb, kind, ...names] = argv;
    if (tool === 'kubeadm' && verb === 'join') this.nodes.set(name, false);
    if (tool === 'kubectl' && verb === 'delete' && kind === 'node') for (const gone of names) this.nodes.delete(gone);
  }
}
