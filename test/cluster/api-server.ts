/* A Kubernetes control plane of a test's own: real etcd, API server and controllers, no nodes. It can be frozen, which a shared one cannot. */
import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { openSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { ensureParts, partFolder } from '../../lab/build/parts.ts';
import { createKubernetesApi, type KubernetesApi, path } from '../../src/activities/kubernetes-api.ts';

export interface ControlPlane {
  api: KubernetesApi;
  kubeConfig: KubeConfig;
  /** kubeconfig as a file, for command-line tools. */
  kubeConfigFile: string;
  /** The API server accepts connections and answers nothing. */
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

export async function until(what: string, seconds: number, holds: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    if (await holds().catch(() => false)) return;
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

export async function startControlPlane(): Promise<ControlPlane> {
  await ensureParts(['kubernetes', 'etcd']);
  const directory = await mkdtemp(join(tmpdir(), 'ferry-api-'));
  const [client = 0, peer = 0, secure = 0, controllers = 0] = await freePorts(4);
  const token = randomBytes(16).toString('hex');
  const keys = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const file = (name: string): string => join(directory, name);
  await writeFile(file('tokens'), `${token},admin,admin,"system:masters"\n`, { mode: 0o600 });
  await writeFile(file('sa.pub'), keys.publicKey);
  await writeFile(file('sa.key'), keys.privateKey, { mode: 0o600 });

  const kubeConfig = new KubeConfig();
  const server = `https://127.0.0.1:${secure}`;
  kubeConfig.loadFromClusterAndUser({ name: 'test', server, skipTLSVerify: true }, { name: 'admin', token });
  await writeFile(file('kubeconfig'), kubeConfig.exportConfig(), { mode: 0o600 });
  const api = createKubernetesApi(kubeConfig);

  const processes: ChildProcess[] = [];
  const start = (name: string, program: string, argv: string[]): ChildProcess => {
    const log = openSync(file(`${name}.log`), 'a');
    const child = spawn(program, argv, { stdio: ['ignore', log, log] });
    processes.push(child);
    return child;
  };
  const etcd = `http://127.0.0.1:${client}`;
  start('etcd', join(partFolder('etcd'), 'etcd'), [
    ...['--data-dir', file('etcd'), '--unsafe-no-fsync', '--log-level', 'error'],
    ...['--listen-client-urls', etcd, '--advertise-client-urls', etcd],
    ...['--listen-peer-urls', `http://127.0.0.1:${peer}`],
  ]);
  const apiServer = start('apiserver', join(partFolder('kubernetes'), 'kube-apiserver'), [
    ...[`--etcd-servers=${etcd}`, '--bind-address=127.0.0.1', '--advertise-address=127.0.0.1'],
    ...[`--secure-port=${secure}`, `--cert-dir=${file('certs')}`, `--token-auth-file=${file('tokens')}`],
    ...['--authorization-mode=RBAC', '--service-cluster-ip-range=10.97.0.0/16', '--allow-privileged=true'],
    ...['--service-account-issuer=https://kubernetes.default.svc', `--service-account-key-file=${file('sa.pub')}`],
    ...[`--service-account-signing-key-file=${file('sa.key')}`, '--endpoint-reconciler-type=none'],
  ]);
  const stop = async (): Promise<void> => {
    apiServer.kill('SIGCONT');
    await Promise.all(
      processes.reverse().map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await gone;
      }),
    );
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await until('the API server', 90, async () => (await api.request<string>('GET', '/readyz')) === 'ok');
    start('controllers', join(partFolder('kubernetes'), 'kube-controller-manager'), [
      ...[`--kubeconfig=${file('kubeconfig')}`, '--leader-elect=false', `--secure-port=${controllers}`],
      ...[`--cert-dir=${file('certs')}`, `--service-account-private-key-file=${file('sa.key')}`],
      ...['--kube-api-qps=500', '--kube-api-burst=1000'],
    ]);
    const account = path('v1', 'default', 'serviceaccounts', 'default');
    await until('the controllers', 60, async () => (await api.find(account)) !== undefined);
  } catch (error) {
    const log = await readFile(file('apiserver.log'), 'utf8').catch(() => '');
    await stop();
    throw new Error(`the control plane did not come up: ${log.slice(-1500)}`, { cause: error });
  }
  return {
    api,
    kubeConfig,
    kubeConfigFile: file('kubeconfig'),
    freeze: () => void apiServer.kill('SIGSTOP'),
    thaw: () => void apiServer.kill('SIGCONT'),
    stop,
  };
}

/** Creates an object by server-side rules: POST to its collection. */
export async function create(api: KubernetesApi, collection: string, object: object): Promise<void> {
  await api.request('POST', collection, { body: object });
}

export async function namespace(api: KubernetesApi, name: string): Promise<void> {
  await create(api, '/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  await until(`the account of ${name}`, 30, async () => {
    return (await api.find(path('v1', name, 'serviceaccounts', 'default'))) !== undefined;
  });
}

interface PodStub {
  metadata: { name: string; namespace: string; deletionTimestamp?: string };
  status?: { phase?: string };
}

/**
 * Does for pods what a kubelet would tell about them, until stopped: they run and are ready. Pods have no node here, so the API server
 * removes them at once when they are deleted.
 */
export function reportPodsRunning(
  api: KubernetesApi,
  namespaceName: string,
  ready: (pod: string) => boolean,
): () => Promise<void> {
  const stopped = new AbortController();
  const loop = (async () => {
    while (!stopped.signal.aborted) {
      const pods = await api.list<PodStub>(path('v1', namespaceName, 'pods')).catch(() => []);
      for (const { metadata, status } of pods) {
        if (status?.phase !== 'Pending' || !ready(metadata.name)) continue;
        const now = new Date().toISOString();
        const body = {
          status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: now }] },
        };
        await api
          .request('PATCH', `${path('v1', namespaceName, 'pods', metadata.name)}/status`, { body })
          .catch(() => undefined);
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  return async () => {
    stopped.abort();
    await loop;
  };
}

export function podTemplate(app: string, spec: object = {}): object {
  return {
    metadata: { labels: { app } },
    spec: { terminationGracePeriodSeconds: 1, containers: [{ name: 'c', image: 'docker.io/lab/pause:1' }], ...spec },
  };
}

export function deployment(name: string, replicas: number): object {
  const spec = { replicas, selector: { matchLabels: { app: name } }, template: podTemplate(name) };
  return { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name }, spec };
}

export function statefulSet(name: string, replicas: number, template: object = podTemplate(name)): object {
  const spec = {
    replicas,
    serviceName: name,
    podManagementPolicy: 'Parallel',
    selector: { matchLabels: { app: name } },
    template,
  };
  return { apiVersion: 'apps/v1', kind: 'StatefulSet', metadata: { name }, spec };
}
