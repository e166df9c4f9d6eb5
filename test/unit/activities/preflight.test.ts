import { describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import type { CheckResult } from '../../../src/activities/contract.ts';
import { ApiError, type KubernetesApi } from '../../../src/activities/kubernetes-api.ts';
import { createPreflightActivities, runPreflight } from '../../../src/activities/preflight.ts';
import { chartVersions, compareVersions } from '../../../src/activities/preflight-hosts.ts';
import { formatBytes } from '../../../src/plan/amounts.ts';
import type { Marker } from '../../../src/activities/transfer-marker.ts';
import { namesOf } from '../../../src/activities/transfer-names.ts';
import type { HostConnection, Hosts, RunResult } from '../../../src/hosts/contract.ts';
import { CommandTimedOut, HostUnreachable } from '../../../src/hosts/errors.ts';
import { componentTable } from '../../../src/plan/components.ts';
import { planDigest } from '../../../src/plan/digest.ts';
import type { Plan } from '../../../src/plan/plan.ts';
import { recordedConfig, sampleComponents, samplePlan } from '../plan/samples.ts';

/** A platform by what it answers: API objects by path, and commands of machines by their first words. */
interface Platform {
  plan: Plan;
  config: string;
  records: Record<string, string>;
  objects: Map<string, unknown>;
  files: Map<string, string>;
  /** `<host> <argv…>`: the first entry whose key starts the command answers. */
  commands: [string | RegExp, Partial<RunResult> | Error][];
  /** Milliseconds that every answer of the API takes, on the platform's own clock. */
  apiDelay: number;
  /** What pods answer through the API, by path: the first that fits. */
  pods: [RegExp, unknown][];
  apiError?: Error;
  /** Boot id of the worker's machine; absent where somebody else checks. */
  worker?: string | undefined;
  /** The clock of everything here: it goes on only when something takes time, so that the load of this machine changes nothing. */
  now: number;
  /** What becomes of it with time: called after each pause, with the milliseconds since the beginning. */
  later?: (milliseconds: number) => void;
}

const running = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] };

const beginning = Date.UTC(2026, 0, 1);

function base64(values: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Buffer.from(value).toString('base64')]));
}

function rsyncVersion(version: string, without: 'ACLs' | '' = ''): string {
  return `rsync  version ${version}  protocol version 31\nCapabilities:\n    64-bit files, hardlinks, ${without === 'ACLs' ? 'no ' : ''}ACLs, xattrs\n`;
}

function healthyPlatform(): Platform {
  const components = sampleComponents();
  const objects = new Map<string, unknown>();
  const add = (path: string, object: object): void => {
    const namespace = /\/namespaces\/(?<name>[^/]+)\/./.exec(path)?.groups?.['name'];
    // As the API tells it: a namespaced object names its namespace.
    const metadata = { name: path.split('/').at(-1), ...(namespace === undefined ? {} : { namespace }) };
    objects.set(path, { metadata, ...object });
  };
  for (const index of [1, 2, 3]) {
    add(`/api/v1/nodes/node-${index}`, {
      metadata: {
        name: `node-${index}`,
        labels: { 'kubernetes.io/hostname': `node-${index}`, 'node-role.kubernetes.io/master': '' },
      },
      status: { conditions: [{ type: 'Ready', status: 'True' }] },
    });
  }
  for (const { kind, namespace, statefulSets, dataPath, replicas } of components) {
    for (const name of statefulSets) {
      add(`/apis/apps/v1/namespaces/${namespace}/statefulsets/${name}`, {
        spec: { replicas: replicas.length },
        status: { readyReplicas: replicas.length },
      });
    }
    for (const { from, pod, pvc, pv } of replicas) {
      add(`/api/v1/namespaces/${namespace}/pods/${pod}`, { spec: { nodeName: from }, status: running });
      add(`/api/v1/namespaces/${namespace}/persistentvolumeclaims/${pvc}`, { spec: { volumeName: pv } });
      add(`/api/v1/persistentvolumes/${pv}`, {
        spec: {
          persistentVolumeReclaimPolicy: 'Retain',
          local: { path: dataPath },
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', values: [from] }] }],
            },
          },
        },
      });
    }
    const { workload } = componentTable[kind];
    if (workload.type === 'helm') continue;
    add(`/apis/apps/v1/namespaces/${workload.operator.namespace}/deployments/${workload.operator.deployment}`, {
      status: { readyReplicas: 1 },
    });
    add(`/apis/${workload.apiVersion}/namespaces/resource/${workload.plural}/${workload.name}`, {});
  }
  add('/api/v1/namespaces/anyshare', {});
  add('/apis/apps/v1/namespaces/anyshare/deployments/web', {});
  const charts = [...Object.values(componentTable).map((row) => row.chart), 'component-manage'].map(
    (chart) => `${chart}-1.2.3.tgz`,
  );
  return {
    plan: samplePlan(),
    config: recordedConfig('base'),
    records: Object.fromEntries(
      components.flatMap(({ kind, dataPath, replicas }) => {
        const { persist } = componentTable[kind];
        const hosts = replicas.map((replica) => replica.from);
        const params = { hosts, data_path: dataPath, admin_user: 'root', admin_passwd: 'invented' };
        return persist === undefined ? [] : [[persist.key, stringify({ version: '1.2.3+4', params })]];
      }),
    ),
    objects,
    files: new Map([['/usr/local/share/proton-version.txt', 'ProtonDeps-3.8.0\n']]),
    commands: [
      [/manifests\/etcd\.yaml/, { code: 1 }],
      [/ id -u$/, { stdout: '0\n' }],
      [/ date /, { stdout: 'NOW' }],
      [/dev\/tcp/, { stdout: 'PORTS' }],
      [/ rsync --version/, { stdout: rsyncVersion('3.4.1') }],
      [/ perl -MPOSIX -e 1$/, {}],
      [/ systemctl show/, { stdout: 'UNITS' }],
      [/\/boot_id$/, { stdout: 'BOOT' }],
      [/ helm3 version/, { stdout: 'v3.22.0+g123\n' }],
      [/ proton-cli apply --help/, { stdout: 'Flags:\n  -f, --file string\n' }],
      [/ ls -1 /, { stdout: `${charts.join('\n')}\n` }],
      [/readlink -m/, { stdout: 'STATE' }],
      [/ nice .*du -s/, { stdout: 'SIZE' }],
      [/df -B1/, { stdout: '500000000000 /sysvol\n 1000000 2000000\n' }],
      [/ grep /, { code: 1 }],
      [/./, {}],
    ],
    apiDelay: 0,
    pods: [
      [/%3A2379\/proxy\/v3\/kv\/range$/, { count: '3' }],
      [/%3A4151\/proxy\/stats\?format=json$/, { topics: [{ depth: 1 }] }],
      [/%3A3000\/proxy\/api\/health$/, { database: 'ok' }],
    ],
    now: beginning,
  };
}

/** A server that takes every login and says that there are five tables in two schemas. */
function mariadbAnswers(): Buffer[] {
  const frame = (...body: number[]): Buffer => Buffer.from([body.length, 0, 0, 0, ...body]);
  const end = frame(0xfe, 0, 0, 0, 0);
  return [
    frame(10, ...Array<number>(80).fill(0)),
    frame(0),
    Buffer.concat([frame(2), end, frame(1, 0x35, 1, 0x32), end]),
  ];
}

function apiOf(platform: Platform): KubernetesApi {
  const secret = (values: Record<string, string>): unknown => ({ metadata: { name: 'secret' }, data: base64(values) });
  const find = async (path: string): Promise<unknown> => {
    if (platform.apiError) throw platform.apiError;
    await Promise.resolve();
    platform.now += platform.apiDelay;
    const pod = platform.pods.find(([pattern]) => pattern.test(path))?.[1];
    if (pod instanceof Error) throw pod;
    if (pod !== undefined) return pod;
    if (path.endsWith('/secrets/proton-cli-config')) return secret({ ClusterConfiguration: platform.config });
    if (path.endsWith('/secrets/persist-component-manage-components')) return secret(platform.records);
    return platform.objects.get(path);
  };
  return {
    server: 'https://10.0.0.11:6443',
    request: (_method: string, path: string) => find(path),
    find,
    list: (path: string) => {
      if (platform.apiError) throw platform.apiError;
      const plural = path.split('/').at(-1) ?? '';
      const prefix = path.slice(0, -plural.length);
      const pattern = new RegExp(`^${prefix}(namespaces/[^/]+/)?${plural}/[^/]+$`);
      return Promise.resolve([...platform.objects].flatMap(([key, object]) => (pattern.test(key) ? [object] : [])));
    },
    connect: ({ port }: { port: number }) => {
      const answers = port === 6379 ? ['# Keyspace\r\ndb0:keys=3,expires=1\r\nferry-end\r\n'] : mariadbAnswers();
      return Promise.resolve({
        write: () => undefined,
        read: () => Promise.resolve(Buffer.from(answers.shift() ?? '')),
        close: () => undefined,
      });
    },
  } as unknown as KubernetesApi;
}

/** `00000000-0000-0000-0000-000000000004` of node-4. */
function bootIdOf(name: string): string {
  return `00000000-0000-0000-0000-${name.replaceAll(/\D/g, '').padStart(12, '0')}`;
}

function hostsOf(platform: Platform): Hosts {
  const answer = (name: string, argv: readonly string[]): RunResult => {
    const line = `${name} ${argv.join(' ')}`;
    const entry = platform.commands.find(([key]) => (typeof key === 'string' ? line.startsWith(key) : key.test(line)));
    const result = entry?.[1] ?? {};
    if (result instanceof Error) throw result;
    const isSource = /^node-[123]$/.test(name);
    const words: Record<string, string> = {
      BOOT: `${bootIdOf(name)}\n`,
      NOW: `${platform.now / 1000}\n`,
      PORTS: argv
        .slice(4)
        .map((end) => `open ${end}\n`)
        .join(''),
      UNITS: argv
        .slice(4)
        .map((unit) => `Id=${unit}\nLoadState=loaded\n`)
        .join('\n'),
      STATE: `${isSource ? 'filled' : 'absent'}\n${argv.at(-1) ?? ''}\n`,
      SIZE: isSource ? '1000000 10\n' : '0 0\n',
    };
    const stdout = result.stdout ?? '';
    return { code: 0, signal: null, stderr: '', ...result, stdout: words[stdout] ?? stdout };
  };
  return {
    connect: (host) =>
      Promise.resolve({
        host,
        run: (argv: readonly string[]) => Promise.resolve().then(() => answer(host.name, argv)),
        readFile: (path: string) => {
          const content = platform.files.get(`${host.name} ${path}`) ?? platform.files.get(path);
          return Promise.resolve(content === undefined ? undefined : Buffer.from(content));
        },
      } as unknown as HostConnection),
    close: () => Promise.resolve(),
  };
}

async function check(change: (platform: Platform) => void = () => undefined): Promise<CheckResult[]> {
  const platform = healthyPlatform();
  change(platform);
  platform.plan = { ...platform.plan, digest: planDigest(platform.plan) };
  const time = {
    now: () => platform.now,
    elapsed: () => platform.now,
    pause: (milliseconds: number) => {
      platform.now += milliseconds;
      platform.later?.(platform.now - beginning);
      return Promise.resolve();
    },
  };
  const workerBootId = 'worker' in platform ? { workerBootId: () => Promise.resolve(platform.worker) } : {};
  return runPreflight({ api: apiOf(platform), hosts: hostsOf(platform), time, ...workerBootId }, platform.plan);
}

describe('preflight of a healthy platform', () => {
  it('warns of the name order and the registry only', async () => {
    const results = await check();

    expect(results.filter((result) => result.state === 'failed')).toEqual([]);
    expect(results.filter((result) => result.state === 'warning').map((result) => result.name)).toEqual([
      'name-order',
      'container-registry',
    ]);
    expect(results.map((result) => result.name)).toHaveLength(new Set(results.map((result) => result.name)).size);
    expect(results.length).toBeGreaterThanOrEqual(45);
    expect(JSON.stringify(results)).not.toContain('invented');
  });

  it('minds neither pods that have ended nor those of applications', async () => {
    const results = await check((platform) => {
      pod('kube-system', 'job-1', { phase: 'Succeeded' })(platform);
      pod('resource', 'evicted-1', { phase: 'Failed' })(platform);
      pod('anyshare', 'web-1', { phase: 'Pending' })(platform);
    });

    expect(results.find(({ name }) => name === 'cluster-health')).toEqual({
      name: 'cluster-health',
      state: 'ok',
      cause: 'no unhealthy pod in kube-system, resource',
    });
  });

  it('takes neither pods that have ended nor static ones for writers', async () => {
    const results = await check((platform) => {
      pod('tools', 'job-1', { phase: 'Succeeded' })(platform);
      pod('tools', 'job-2', { phase: 'Failed' })(platform);
      platform.objects.set('/api/v1/namespaces/machine/pods/agent-node-1', {
        metadata: {
          namespace: 'machine',
          name: 'agent-node-1',
          annotations: { 'kubernetes.io/config.mirror': 'x' },
        },
        status: running,
      });
    });

    expect(results.find(({ name }) => name === 'applications')).toMatchObject({ state: 'ok', cause: 'stops anyshare' });
  });

  it('stops after an API that does not answer', async () => {
    const results = await check((platform) => {
      platform.apiError = new Error('connect ECONNREFUSED');
    });

    expect(results.map(({ name, state }) => [name, state])).toEqual([
      ['plan', 'ok'],
      ['api', 'failed'],
    ]);
    expect(results[1]?.cause).toBe('could not be checked: connect ECONNREFUSED');
  });
});

const command = (key: string | RegExp, result: Partial<RunResult> | Error) => (platform: Platform) => {
  platform.commands.unshift([key, result]);
};
const config = (from: string | RegExp, to: string) => (platform: Platform) => {
  const changed = platform.config.replace(from, to);
  if (changed === platform.config) throw new Error('nothing was changed');
  platform.config = changed;
};
const object = (path: string, change: unknown) => (platform: Platform) => {
  if (!platform.objects.has(path)) throw new Error(path);
  if (change === undefined) platform.objects.delete(path);
  else platform.objects.set(path, { ...(platform.objects.get(path) as object), ...(change as object) });
};
const workload = (plural: string, namespace: string, name: string) => (platform: Platform) => {
  const [group = '', version = '', kind = ''] = plural.split('/');
  platform.objects.set(`/apis/${group}/${version}/namespaces/${namespace}/${kind}/${name}`, {
    metadata: { name, namespace },
  });
};
const pod = (namespace: string, name: string, status: object) => (platform: Platform) => {
  platform.objects.set(`/api/v1/namespaces/${namespace}/pods/${name}`, {
    metadata: { namespace, name },
    spec: { nodeName: 'node-1' },
    status,
  });
};

describe('a pod that is ill at the first look', () => {
  const crashing = {
    phase: 'Running',
    conditions: [{ type: 'Ready', status: 'False' }],
    containerStatuses: [{ state: { waiting: { reason: 'CrashLoopBackOff' } } }],
  };
  const starting = { phase: 'Pending' };

  /** The check of a pod that is `status` at a time (seconds), and how many seconds it took. */
  async function watched(status: (seconds: number) => object): Promise<{ result: unknown; seconds: number }> {
    let seen: Platform | undefined;
    const results = await check((platform) => {
      seen = platform;
      pod('kube-system', 'coredns-1', status(0))(platform);
      platform.later = (milliseconds) => pod('kube-system', 'coredns-1', status(milliseconds / 1000))(platform);
    });
    const result = results.find(({ name }) => name === 'cluster-health');
    return { result, seconds: ((seen?.now ?? 0) - beginning) / 1000 };
  }

  it.each<[string, (seconds: number) => object, number]>([
    ['is ready after 20 s', (seconds) => (seconds < 20 ? starting : running), 30],
    ['is ready in the last moment', (seconds) => (seconds < 60 ? starting : running), 70],
    ['crashes once more, then stays', (seconds) => (seconds < 4 || seconds === 8 ? crashing : running), 20],
  ])('does not count where it %s', async (_what, status, least) => {
    const { result, seconds } = await watched(status);

    expect(result).toEqual({ name: 'cluster-health', state: 'ok', cause: 'no unhealthy pod in kube-system, resource' });
    expect(seconds).toBe(least);
  });

  it.each<[string, (seconds: number) => object, string, number]>([
    ['stays so', () => crashing, 'Running, CrashLoopBackOff, on node-1', 60],
    ['becomes worse', (seconds) => (seconds < 50 ? starting : crashing), 'Running, CrashLoopBackOff, on node-1', 60],
    // Eight seconds of every twenty: sound at many looks, and never for long.
    [
      'looks sound between its crashes',
      (seconds) => (seconds % 20 < 12 ? crashing : running),
      'Running, CrashLoopBackOff, on node-1',
      60,
    ],
    [
      'looks sound in the last moment only',
      (seconds) => (seconds < 58 || seconds > 62 ? starting : running),
      'Pending, on node-1',
      64,
    ],
  ])('counts where it %s', async (_what, status, words, most) => {
    const { result, seconds } = await watched(status);

    expect(result).toMatchObject({
      name: 'cluster-health',
      state: 'failed',
      cause: `pod kube-system/coredns-1 (${words})`,
      next: expect.stringContaining('kubectl -n NAMESPACE describe pod POD') as string,
    });
    expect(seconds).toBe(most);
  });

  it('is the only one that is waited for', async () => {
    expect((await watched(() => running)).seconds).toBe(0);
  });
});

/** A node of the platform that takes no part. */
const worker7 = (platform: Platform): void => {
  config(/^nodes:\n/m, 'nodes:\n- ip4: 10.0.0.17\n  name: worker-7\n')(platform);
  platform.objects.set('/api/v1/nodes/worker-7', {
    metadata: { name: 'worker-7', labels: { 'kubernetes.io/hostname': 'worker-7' } },
    status: { conditions: [{ type: 'Ready', status: 'True' }] },
  });
};

/** All agents of machines 11 to 17 but one. */
const openBut = (closed: string): string =>
  [1, 2, 3, 4, 5, 6, 7]
    .flatMap((index) => [`10.0.0.1${index}:9202`, `10.0.0.1${index}:9547`])
    .map((end) => `${end === closed ? 'refused' : 'open'} ${end}\n`)
    .join('');

const rebooting = (): Plan =>
  samplePlan((plan) => (plan.hostServices = { ...plan.hostServices, hosts: ['node-1', 'node-4'], restart: 'reboot' }));

/** What is found, what is wrong, and what the check of a name says to it. */
type Row = [string, (platform: Platform) => void, string, 'failed' | 'warning', RegExp];

describe('preflight finds', () => {
  it.each<Row>([
    [
      'a slow API',
      (p) => (p.apiDelay = 1060),
      'api',
      'failed',
      /^read 1 of the configuration took 1\.1 s; read 2 .* took 1\.1 s; read 3 .* took 1\.1 s$/,
    ],
    [
      'another migration of the same cluster',
      (p) =>
        p.objects.set('/apis/coordination.k8s.io/v1/namespaces/proton/leases/ferry-migration', {
          metadata: { name: 'ferry-migration' },
          spec: { holderIdentity: 'migrate-other', acquireTime: '2026-01-01T00:00:00.000000Z' },
        }),
      'other-migrations',
      'warning',
      /^migration migrate-other holds this cluster since 2026-01-01T00:00:00\.000000Z$/,
    ],
    [
      'a Node outside of the configuration',
      (p) => p.objects.set('/api/v1/nodes/node-9', { metadata: { name: 'node-9' } }),
      'nodes-known',
      'failed',
      /node-9 is not in the configuration: the next apply would delete it/,
    ],
    [
      'a configured node that is gone',
      object('/api/v1/nodes/node-3', undefined),
      'nodes-known',
      'failed',
      /node-3 is in the configuration but is no Node/,
    ],
    [
      'a node that is not ready',
      object('/api/v1/nodes/node-2', { status: {} }),
      'nodes-ready',
      'failed',
      /node-2 is not Ready/,
    ],
    [
      'a pod of the system that crashes again and again',
      pod('kube-system', 'coredns-1', {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: 'False' }],
        containerStatuses: [{ state: { waiting: { reason: 'CrashLoopBackOff' } } }],
      }),
      'cluster-health',
      'failed',
      /^pod kube-system\/coredns-1 \(Running, CrashLoopBackOff, on node-1\)$/,
    ],
    [
      'a pod beside the components that finds no node',
      pod('resource', 'exporter-1', {
        phase: 'Pending',
        conditions: [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes are available' }],
      }),
      'cluster-health',
      'failed',
      /^pod resource\/exporter-1 \(Pending, 0\/3 nodes are available, on node-1\)$/,
    ],
    [
      'a node whose pods cannot be sound',
      object('/api/v1/nodes/node-2', { status: {} }),
      'cluster-health',
      'failed',
      /^node node-2 is NotReady$/,
    ],
    [
      'another host name',
      object('/api/v1/nodes/node-2', { metadata: { name: 'node-2', labels: { 'kubernetes.io/hostname': 'two' } } }),
      'hostname-label',
      'failed',
      /node-2 has kubernetes\.io\/hostname=two/,
    ],
    [
      'an address in use',
      config('10.0.0.13', '10.0.0.14'),
      'mapping',
      'failed',
      /10\.0\.0\.14 of node-4 is the address of node-3/,
    ],
    [
      'nodes that were added before',
      (p) => (p.config = recordedConfig('middle')),
      'mapping',
      'warning',
      /node-4 is a node already/,
    ],
    [
      'no container runtime',
      config(/ {2}container_runtime:\n(?: {4}.*\n)+/, ''),
      'container-runtime',
      'failed',
      /cs\.container_runtime is not set/,
    ],
    [
      'another container runtime',
      config('    docker:', '    containerd:'),
      'container-runtime',
      'failed',
      /uses containerd, the plan says docker/,
    ],
    [
      'a deploy namespace',
      config('  mode: standard', '  mode: standard\n  namespace: anyshare'),
      'deploy-namespace',
      'failed',
      /would not reinstall mariadb, mongodb and nebula/,
    ],
    [
      'a control host that is no master',
      object('/api/v1/nodes/node-1', { metadata: { name: 'node-1', labels: { 'kubernetes.io/hostname': 'node-1' } } }),
      'masters',
      'failed',
      /node-1 is no control-plane node/,
    ],
    [
      'no master left',
      (p) => (p.plan = samplePlan((plan) => plan.nodes.add.forEach((node) => (node.controlPlane = false)))),
      'masters',
      'failed',
      /no control-plane node would be left/,
    ],
    [
      'a registry nobody moves',
      (p) => (p.plan = samplePlan((plan) => (plan.containerRegistry = 'not-moved'))),
      'container-registry',
      'failed',
      /node-1, node-2, which leave/,
    ],
    ['eceph on an old node', config(/$/, 'eceph: {hosts: [node-2]}\n'), 'eceph', 'failed', /eceph runs on node-2/],
    [
      'a component that is not planned',
      (p) =>
        (p.plan = samplePlan((plan) => {
          plan.components.shift();
          plan.transfers.splice(0, 3);
        })),
      'component-list',
      'failed',
      /mariadb has data on node-1, node-2, node-3/,
    ],
    [
      'an edit that would fail',
      config(
        '  - node-1\n  - node-2\n  - node-3\nproton_mariadb',
        '  - node-2\n  - node-1\n  - node-3\nproton_mariadb',
      ),
      'config-edits',
      'failed',
      /proton_etcd\.hosts: is \[node-2, node-1, node-3\]/,
    ],
    [
      'a platform of two address families',
      (p) => (p.config = recordedConfig('dual-stack')),
      'config-edits',
      'failed',
      /^the platform would refuse the document of add-nodes: node-4, node-5, node-6 would have no ip6, and [^;]*$/,
    ],
    [
      'a time server whose new node is no master',
      (p) => (p.plan = samplePlan((plan) => (plan.nodes.add[0]!.controlPlane = false))),
      'config-edits',
      'failed',
      /^the platform would refuse the document of remove-nodes: chrony\.server would be node-4, which is not in cs\.master \(node-5, node-6\)$/,
    ],
    [
      'an operator that is away',
      object(
        '/apis/apps/v1/namespaces/proton-rds-mariadb-operator-system/deployments/proton-rds-mariadb-operator-controller-manager',
        { status: {} },
      ),
      'operators',
      'failed',
      /mariadb: its operator .* is not ready/,
    ],
    [
      'no custom resource',
      object('/apis/apps.nebula-graph.io/v1alpha1/namespaces/resource/nebulaclusters/nebula', undefined),
      'operators',
      'failed',
      /nebula: NebulaCluster nebula does not exist/,
    ],
    [
      'a missing namespace',
      object('/api/v1/namespaces/anyshare', undefined),
      'applications',
      'failed',
      /namespace anyshare does not exist/,
    ],
    [
      'other writers',
      workload('batch/v1/cronjobs', 'reports', 'nightly'),
      'applications',
      'warning',
      /namespace reports are not stopped/,
    ],
    [
      'writers in the namespace that everybody has',
      workload('apps/v1/deployments', 'default', 'web'),
      'applications',
      'warning',
      /^workloads of namespace default are not stopped by this plan$/,
    ],
    ...(['Running', 'Pending', 'Unknown'] as const).map((phase): Row => [
      `a pod of no workload that is ${phase}`,
      pod('tools', 'shell', { phase }),
      'applications',
      'warning',
      /^workloads of namespace tools are not stopped by this plan$/,
    ]),
    [
      'hosts in another order',
      config(/(zookeeper:\n(?:.*\n)*? {2}hosts:\n {2}- )node-1\n {2}- node-2/, '$1node-2\n  - node-1'),
      'component/zookeeper',
      'failed',
      /hosts are \[node-2, node-1, node-3\]/,
    ],
    [
      'records that differ',
      (p) => (p.records['kafka'] = 'params: {hosts: [node-1]}'),
      'component/kafka',
      'failed',
      /component-manage recorded hosts \[node-1\]/,
    ],
    ['no record', (p) => delete p.records['kafka'], 'component/kafka', 'failed', /no record/],
    [
      'another directory',
      config('/sysvol/grafana', '/data/grafana'),
      'component/grafana',
      'failed',
      /its directory is \/data\/grafana, planned \/sysvol\/grafana/,
    ],
    [
      'a volume on another node',
      object('/api/v1/persistentvolumes/data-kafka-1', {
        spec: {
          nodeAffinity: {
            required: {
              nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', values: ['node-3'] }] }],
            },
          },
        },
      }),
      'component/kafka',
      'failed',
      /volume data-kafka-1 is on node-3, not node-2/,
    ],
    [
      'a wrongly bound claim',
      object('/api/v1/namespaces/resource/persistentvolumeclaims/data-kafka-1', {
        spec: { volumeName: 'data-kafka-2' },
      }),
      'component/kafka',
      'failed',
      /claim data-kafka-1 is bound to data-kafka-2/,
    ],
    [
      'a volume that deletes data',
      object('/api/v1/persistentvolumes/data-grafana-0', { spec: { persistentVolumeReclaimPolicy: 'Delete' } }),
      'component/grafana',
      'failed',
      /reclaim policy Delete/,
    ],
    [
      'a pod elsewhere',
      object('/api/v1/namespaces/resource/pods/kafka-0', { spec: { nodeName: 'node-3' } }),
      'component/kafka',
      'failed',
      /pod kafka-0 runs on node-3, not node-1/,
    ],
    [
      'a pod that is not ready',
      object('/apis/apps/v1/namespaces/resource/statefulsets/kafka', { status: { readyReplicas: 2 } }),
      'component/kafka',
      'failed',
      /2 of 3 pods ready/,
    ],
    [
      'an unreachable machine',
      command('node-5 id', new HostUnreachable('node-5', 'no route')),
      'ssh',
      'failed',
      /node-5: node-5 cannot be reached: no route/,
    ],
    [
      'a user that is not root',
      command('node-5 id', { stdout: '1000\n' }),
      'ssh',
      'failed',
      /node-5: user root is not root/,
    ],
    [
      'a clock that is ahead',
      command('node-6 date', { stdout: `${beginning / 1000 + 300}` }),
      'clock',
      'failed',
      /node-6 is 300 s ahead of node-1/,
    ],
    [
      'a clock just beyond it',
      command('node-6 date', { stdout: `${beginning / 1000 - 31}` }),
      'clock',
      'failed',
      /^node-6 is 31 s behind node-1; the node agents refuse beyond a minute$/,
    ],
    [
      'clocks that are near the one of the control host, and not near each other',
      (p) => {
        command('node-5 date', { stdout: `${beginning / 1000 - 20}` })(p);
        command('node-6 date', { stdout: `${beginning / 1000 + 20}` })(p);
      },
      'clock',
      'failed',
      /^node-6 is 40 s ahead of node-5; /,
    ],
    [
      'a closed port',
      command(/node-1 .*dev\/tcp/, { stdout: 'open 10.0.0.11:9202\n' }),
      'ports',
      'failed',
      /SLB manager on node-1 .*ECMS on node-2/,
    ],
    [
      'a node that stays and whose agent is dead',
      (p) => {
        worker7(p);
        command(/node-1 .*dev\/tcp.* 10\.0\.0\.17:9202/, { stdout: openBut('10.0.0.17:9202') })(p);
      },
      'ports',
      'failed',
      /^ECMS on worker-7 does not answer on port 9202 from node-1$/,
    ],
    [
      'a node that stays and whose clock is off',
      (p) => {
        worker7(p);
        p.plan = samplePlan((plan) => plan.hosts.push({ ...plan.hosts[0]!, name: 'worker-7', address: '10.0.0.17' }));
        command('worker-7 date', { stdout: `${beginning / 1000 + 90}` })(p);
      },
      'clock',
      'failed',
      /^worker-7 is 90 s ahead of node-1; the node agents refuse beyond a minute$/,
    ],
    [
      'a node that stays and that the plan does not know',
      worker7,
      'clock',
      'warning',
      /^the clock of a node that stays was not looked at: worker-7: the plan does not say how to reach worker-7$/,
    ],
    [
      'another package',
      (p) => p.files.set('node-4 /usr/local/share/proton-version.txt', 'ProtonDeps-3.7.0'),
      'package-version',
      'failed',
      /node-4 has ProtonDeps-3\.7\.0, node-1 has ProtonDeps-3\.8\.0/,
    ],
    [
      'no rsync',
      command('node-4 rsync', { code: 127, stderr: 'not found' }),
      'rsync',
      'warning',
      /^node-4 has no rsync: \S.*-0, .* go through tar, whole in every pass: \d\S* MiB in the window, about \d+ s ± \d+ s$/,
    ],
    [
      'no rsync, and sizes that nobody knows',
      (p) => {
        command('node-4 rsync', { code: 127 })(p);
        p.plan = { ...p.plan, transfers: p.plan.transfers.map(({ observed: _observed, ...transfer }) => transfer) };
      },
      'rsync',
      'warning',
      /whole in every pass: the window lasts as long as a first copy$/,
    ],
    [
      'no rsync, and none at the worker that may lend it',
      (p) => {
        command('node-4 rsync', { code: 127 })(p);
        p.plan = { ...p.plan, bringRsync: { program: '/nowhere/rsync' } };
        p.worker = undefined;
      },
      'rsync',
      'warning',
      /node-4 has no rsync, and the worker has none to lend \(.*\/nowhere\/rsync.*\): .* go through tar/,
    ],
    [
      'a rsync that loses data',
      command('node-4 rsync', { stdout: rsyncVersion('3.1.2', 'ACLs') }),
      'rsync',
      'failed',
      /rsync 3\.1\.2 of node-4 was built without ACLs/,
    ],
    [
      'a rsync that loses data, and none at the worker that may lend it',
      (p) => {
        command('node-4 rsync', { stdout: rsyncVersion('3.1.2', 'ACLs') })(p);
        p.plan = { ...p.plan, bringRsync: { program: '/nowhere/rsync' } };
        p.worker = undefined;
      },
      'rsync',
      'failed',
      /rsync 3\.1\.2 of node-4 was built without ACLs, and the worker has none to lend \(.*nowhere/,
    ],
    [
      'a rsync from before ACLs',
      command('node-4 rsync', { stdout: 'rsync  version 2.6.9  protocol version 29' }),
      'rsync',
      'failed',
      /rsync 2\.6\.9 of node-4 is too old/,
    ],
    [
      'no perl',
      command('node-5 perl', { code: 127 }),
      'rsync',
      'failed',
      /node-5 has no perl with its module POSIX, and without it no copy can be proved/,
    ],
    [
      'SELinux at new machines alone',
      command('node-1 test -e /sys/fs/selinux/enforce', { code: 1 }),
      'rsync',
      'failed',
      /node-1 to node-4: SELinux labels every file at the destination, and is off at the source/,
    ],
    [
      'an old rsync',
      command('node-4 rsync', { stdout: rsyncVersion('3.1.2') }),
      'rsync',
      'warning',
      /rsync 3\.1\.2 of node-4 compares times to the second/,
    ],
    [
      'a machine that was a member of etcd once, where the configuration keeps its data',
      command(/node-4 .*kubelet\.conf .* \/sysvol\/proton_data\/cs_etcd_data\/member$/, {
        stdout: '/sysvol/proton_data/cs_etcd_data/member\n',
      }),
      'new-machines',
      'failed',
      /node-4 has leftovers of a cluster: \/sysvol\/proton_data\/cs_etcd_data\/member/,
    ],
    [
      'a machine with a past',
      command(/node-4 .*kubelet\.conf/, { stdout: '/etc/kubernetes/kubelet.conf\n' }),
      'new-machines',
      'failed',
      /node-4 has leftovers of a cluster/,
    ],
    [
      'a machine without kubelet',
      command('node-4 systemctl', { stdout: 'Id=docker.service\nLoadState=loaded\n' }),
      'runtime-units',
      'failed',
      /node-4 has no kubelet\.service/,
    ],
    [
      'a worker on a machine that is rebooted',
      (p) => {
        p.plan = rebooting();
        p.worker = bootIdOf('node-4');
      },
      'worker',
      'failed',
      /^the worker runs on node-4, which the plan reboots$/,
    ],
    [
      'a worker that does not know where it runs',
      (p) => {
        p.plan = rebooting();
        p.worker = undefined;
      },
      'worker',
      'warning',
      /the worker does not know .* node-1, node-4 will be rebooted/,
    ],
    [
      'no Helm',
      command('node-1 helm', { code: 127, stderr: 'not found' }),
      'helm',
      'failed',
      /^there is no Helm 3 on node-1: neither helm3 nor helm .*; \d+ components could not be uninstalled$/,
    ],
    [
      'Helm 2 only',
      (p) => {
        command('node-1 helm3', { code: 127 })(p);
        command('node-1 helm version', { stdout: 'v2.17.0+ga690bad\n' })(p);
      },
      'helm',
      'failed',
      /there is no Helm 3 on node-1/,
    ],
    [
      'no proton-cli',
      command('node-1 proton-cli', { code: 127, stderr: 'no such file' }),
      'proton-cli',
      'failed',
      /ended with 127: no such file/,
    ],
    [
      'a namespace file that misleads',
      (p) => p.files.set('node-1 /root/.proton-cli.yaml', 'resource_namespace: resource\n'),
      'namespace-file',
      'failed',
      /look for the configuration in namespace "", not in proton/,
    ],
    [
      'another resource namespace',
      (p) =>
        p.files.set(
          'node-1 /root/.proton-cli.yaml',
          'proton_cli_config_namespace: proton\nresource_namespace: anyshare\n',
        ),
      'namespace-file',
      'failed',
      /resource namespace "anyshare", not resource/,
    ],
    [
      'missing files',
      command(/node-1 .*-r "\$f"/, { stdout: '/etc/kubernetes/admin.conf\n' }),
      'control-files',
      'failed',
      /\/etc\/kubernetes\/admin\.conf is missing on node-1/,
    ],
    [
      'no kubeadm configuration',
      command('node-1 test -r /tmp', { code: 1 }),
      'kubeadm-config',
      'failed',
      /missing on node-1, the first of cs\.master/,
    ],
    [
      'a missing chart',
      command('node-1 ls', { stdout: 'component-manage-1.0.0.tgz\n' }),
      'chart-versions',
      'failed',
      /no chart proton-kafka: kafka would silently not be reinstalled/,
    ],
    [
      'an older chart',
      (p) => (p.records['kafka'] = p.records['kafka']!.replace('1.2.3+4', '1.2.4+1')),
      'chart-versions',
      'failed',
      /proton-kafka is 1\.2\.3, older than the recorded 1\.2\.4/,
    ],
    [
      'a newer chart',
      (p) => (p.records['kafka'] = p.records['kafka']!.replace('1.2.3+4', '1.2.3-beta.1')),
      'chart-versions',
      'warning',
      /kafka would be upgraded from chart 1\.2\.3-beta\.1 to 1\.2\.3/,
    ],
    [
      'a missing source',
      command(/node-1 .*readlink .*\/sysvol\/grafana$/, { stdout: 'absent\n/sysvol/grafana\n' }),
      'sources',
      'failed',
      /node-1:\/sysvol\/grafana does not exist/,
    ],
    [
      'a linked source',
      command(/node-1 .*readlink .*\/sysvol\/grafana$/, { stdout: 'filled\n/data/grafana\n' }),
      'sources',
      'failed',
      /symbolic link to \/data\/grafana/,
    ],
    [
      'a source without data',
      command(/node-1 .*shift; for g .*\/sysvol\/grafana /, { stdout: 'grafana.db */grafana.db\n' }),
      'sources',
      'warning',
      /\/sysvol\/grafana does not look like data of grafana: no grafana\.db or \*\/grafana\.db; what is absent/,
    ],
    [
      'a source that cannot be looked into',
      command(/node-1 .*shift; for g .*\/sysvol\/grafana /, { code: 1 }),
      'sources',
      'warning',
      /does not look like data of grafana: no entry that could be listed/,
    ],
    [
      'a component that knows no probe',
      (p) => p.pods.unshift([/%3A4151/, new ApiError(503, 'ServiceUnavailable', 'x'.repeat(999))]),
      'probes',
      'warning',
      /^\S*nsq\S*-0 does not answer the probe queued: x{200}(;|$)/,
    ],
    [
      'a component that does not answer just now',
      (p) => p.pods.unshift([/etcd-0%3A2379/, Object.assign(new Error('reset'), { code: 'ECONNRESET' })]),
      'probes',
      'warning',
      /etcd-0 does not answer the probe keys: reset/,
    ],
    [
      'a component without a recorded account',
      (p) => (p.records['mariadb'] = p.records['mariadb']!.replace('admin_user', 'other')),
      'probes',
      'warning',
      /does not answer the probe tables: no account is recorded/,
    ],
    [
      'a foreign destination',
      command(/node-4 .*readlink .*\/sysvol\/grafana$/, { stdout: 'filled\n/sysvol/grafana\n' }),
      'destinations',
      'failed',
      /node-4:\/sysvol\/grafana is not empty/,
    ],
    [
      'a linked destination',
      command(/node-4 .*readlink .*\/sysvol\/grafana$/, { stdout: 'link\n/data\n' }),
      'destinations',
      'failed',
      /node-4:\/sysvol\/grafana leads over a symbolic link/,
    ],
    [
      'a full disk',
      command(/node-4 .*df -B1/, { stdout: '10000000 /sysvol\n 1000 2000\n' }),
      'space',
      'failed',
      /node-4:\/sysvol has 9\.5 MiB free, mariadb-0, .* need 14\.7 MiB/,
    ],
    [
      'a disk without inodes',
      command(/node-4 .*df -B1/, { stdout: '10000000000 /sysvol\n 20 2000\n' }),
      'space',
      'failed',
      /20 inodes free/,
    ],
    [
      'a source that is too large to be measured',
      command(/node-1 nice .*\/sysvol\/grafana$/, new CommandTimedOut('node-1', 'nice', 120_000)),
      'space',
      'warning',
      /^grafana-0 is too large to be measured here; the plan's figure is used$/,
    ],
    [
      'a source that grew',
      command(/node-1 nice .*\/sysvol\/grafana$/, { stdout: '9000000000 10\n' }),
      'space',
      'warning',
      /grafana-0 grew from 977 KiB to 8\.4 GiB/,
    ],
    [
      'an invalid plan',
      (p) => (p.plan.mapping[0]!.to = 'node-5'),
      'plan',
      'failed',
      /mapping\[1\]\.to: not a bijection/,
    ],
  ] as const)('%s', async (_what, change, name, state, cause) => {
    const results = await check(change);

    const result = results.find((entry) => entry.name === name);
    expect(result?.cause).toMatch(cause);
    expect(result?.state).toBe(state);
    expect(result?.next).toBeTruthy();
  });

  it.each<[string, string, (platform: Platform) => void]>([
    ['that starts services only', 'no machine is rebooted', (p) => (p.worker = bootIdOf('node-4'))],
    [
      'that reboots other machines than the own one',
      'the worker runs on none of node-1, node-4, which are rebooted',
      (p) => {
        p.plan = rebooting();
        p.worker = bootIdOf('node-9');
      },
    ],
    [
      'that somebody checks elsewhere',
      'the worker asks this itself when the migration begins',
      (p) => (p.plan = rebooting()),
    ],
  ])('nothing against the worker of a plan %s', async (_what, cause, change) => {
    const results = await check(change);
    expect(results.find(({ name }) => name === 'worker')).toEqual({ name: 'worker', state: 'ok', cause });
  });

  it('the place of the worker itself when the worker runs the checks', async () => {
    const platform = healthyPlatform();
    const { preflight } = createPreflightActivities({ api: apiOf(platform), hosts: hostsOf(platform) });

    const results = await preflight({ plan: rebooting() });

    expect(results.find(({ name }) => name === 'worker')?.cause).toMatch(/^the worker (runs on none of|does not know)/);
  });

  it('not the migration itself that asks', async () => {
    const platform = healthyPlatform();
    platform.objects.set('/apis/coordination.k8s.io/v1/namespaces/proton/leases/ferry-migration', {
      metadata: { name: 'ferry-migration' },
      spec: { holderIdentity: 'migrate-other' },
    });
    const { preflight } = createPreflightActivities({ api: apiOf(platform), hosts: hostsOf(platform) });

    const results = await preflight({ plan: platform.plan, workflowId: 'migrate-other' });

    expect(results.find(({ name }) => name === 'other-migrations')?.state).toBe('ok');
  });

  describe('a directory that is full already', () => {
    const { plan } = healthyPlatform();
    const transfer = plan.transfers.find(({ id }) => id === 'grafana-0')!;
    const { claim } = namesOf({ migration: plan.cluster, transfer });
    const destinations = async (marker: object | string | undefined): Promise<CheckResult | undefined> => {
      const results = await check((platform) => {
        command(/node-4 .*readlink .*\/sysvol\/grafana$/, { stdout: 'filled\n/sysvol/grafana\n' })(platform);
        const text = typeof marker === 'string' ? marker : JSON.stringify(marker);
        if (marker !== undefined) platform.files.set(`node-4 ${claim}/marker.json`, text);
      });
      return results.find((entry) => entry.name === 'destinations');
    };
    const own: Marker = {
      migration: plan.cluster,
      transfer: transfer.id,
      sourceHost: transfer.source.host,
      sourcePath: transfer.source.path,
      destinationPath: transfer.destination.path,
      state: 'verified',
    };

    /** The check of space where the tree at the destination cannot be read in time, on a disk with so much free. */
    const space = async (free: string, marker?: object): Promise<CheckResult | undefined> => {
      const results = await check((platform) => {
        command(/node-4 nice .*\/sysvol\/grafana$/, new CommandTimedOut('node-4', 'nice', 120_000))(platform);
        command(/node-4 .*df -B1 .*\/sysvol\/grafana$/, { stdout: `${free} /sysvol/grafana\n 5 2000\n` })(platform);
        if (marker !== undefined) platform.files.set(`node-4 ${claim}/marker.json`, JSON.stringify(marker));
      });
      return results.find((entry) => entry.name === 'space');
    };

    it('is counted as copied when it is too large to be measured', async () => {
      expect(await space('200000', own)).toEqual({
        name: 'space',
        state: 'warning',
        cause: 'node-4:/sysvol/grafana is too large to be measured here (grafana-0); counted as copied',
        next: 'ferry plan measures again',
      });
    });

    it.each<[string, string, object | undefined, string]>([
      ['is short of room even for what may have grown', '90000', own, '97.7 KiB'],
      ["may be a stranger's", '200000', undefined, '1.0 MiB'],
    ])('needs room when it is too large to be measured and %s', async (_what, free, marker, need) => {
      expect(await space(free, marker)).toMatchObject({
        state: 'failed',
        cause: expect.stringMatching(
          new RegExp(`^node-4:/sysvol/grafana has .* free, grafana-0 need ${need.replace('.', '\\.')};`),
        ) as unknown,
        next: 'make room or mount a larger disk on these machines',
      });
    });

    it('is no obstacle when an earlier try of the migration filled it', async () => {
      expect(await destinations(own)).toMatchObject({
        state: 'ok',
        cause: 'empty or absent; 1 already filled by this migration',
      });
    });

    it.each<[string, object | string | undefined]>([
      ['carries no mark', undefined],
      ['carries the mark of another migration', { ...own, migration: 'other' }],
      ['carries the mark of another transfer', { ...own, transfer: 'redis-0' }],
      ['was filled from another machine', { ...own, sourceHost: 'node-9' }],
      ['was filled from another directory', { ...own, sourcePath: '/sysvol/other' }],
      ['carries a mark that cannot be read', '{'],
    ])('is one when it %s', async (_what, marker) => {
      expect(await destinations(marker)).toMatchObject({
        state: 'failed',
        cause: expect.stringContaining('does not carry the mark of this migration (grafana-0)') as unknown,
      });
    });
  });
});

describe('versions', () => {
  it.each([
    ['1.2.3', '1.2.3', 0],
    ['v1.2.3+a', '1.2.3+b', 0],
    ['1.10.0', '1.9.9', 1],
    ['1.2.3-beta.2', '1.2.3', -1],
    ['1.2.3-beta.10', '1.2.3-beta.9', 1],
    ['1.2.3-beta', '1.2.3-1', 1],
    ['1.2', '1.2.0', 0],
  ])('%s and %s: %d', (a, b, order) => {
    expect(compareVersions(a, b)).toBe(order);
    expect(compareVersions(b, a)).toBe(order === 0 ? 0 : -order);
  });

  it('are read from chart files', () => {
    expect([
      ...chartVersions(['proton-mq-nsq-1.2.3-beta.1.tgz', 'kafka-2.0.0.tgz', 'kafka-2.1.0.tgz', 'README', 'x.tgz']),
    ]).toEqual([
      ['proton-mq-nsq', '1.2.3-beta.1'],
      ['kafka', '2.1.0'],
    ]);
  });

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [500 * 1024 ** 3, '500 GiB'],
  ])('%d bytes are %s', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe('the clocks of the machines', () => {
  it('may be just within half a minute of each other', async () => {
    const results = await check(command('node-6 date', { stdout: `${beginning / 1000 + 29}` }));

    expect(results.find(({ name }) => name === 'clock')).toMatchObject({
      state: 'ok',
      cause: 'clocks are at most 29.0 s apart',
    });
  });
});
