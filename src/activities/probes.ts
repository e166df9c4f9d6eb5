import { createHash } from 'node:crypto';
import type { Hosts } from '../hosts/contract.ts';
import { componentsSecretName } from '../plan/components-secret.ts';
import { componentTable } from '../plan/components.ts';
import { readConfigTexts } from '../plan/config-edit.ts';
import type { ComponentKind, Host, PlannedComponent, Replica } from '../plan/plan.ts';
import type { Probe, ProbeActivities } from './contract.ts';
import { errorText, onHost } from './failures.ts';
import { classifyApiError, type KubernetesApi, type KubernetesObject, onApi, path } from './kubernetes-api.ts';
import { MysqlError, queryRow } from './mysql-query.ts';
import { decode, type Secret } from './platform-secrets.ts';
import { whileBeating } from './polling.ts';

export interface ProbeDeps {
  api: KubernetesApi;
  hosts: Hosts;
}

interface Account {
  user: string;
  password: string;
}
interface ProbeContext {
  api: KubernetesApi;
  namespace: string;
  pod: string;
  /** Administrator of the component, as component-manage recorded it. */
  account?: Account;
}
interface Pod extends KubernetesObject {
  status?: { conditions?: { type: string; status: string }[] };
}

/** Characters of a reason: an API server may answer with a page. */
const reasonLength = 200;

/** Why a probe has no value: it is left out then, never made up. */
class NotTaken extends Error {}

/**
 * Facts a server tells about its data that stay the same as long as no client writes: counts of what does not expire by itself. Never the
 * data. Size on disk is none of them: logs and compaction change it while nobody writes.
 */
const serviceProbes: Partial<
  Record<ComponentKind, { name: string; take: (context: ProbeContext) => Promise<string> }>
> = {
  redis: { name: 'persistent-keys', take: redisKeys },
  etcd: { name: 'keys', take: etcdKeys },
  mariadb: { name: 'tables', take: mariadbTables },
  nsq: { name: 'queued', take: nsqMessages },
  grafana: { name: 'database', take: grafanaDatabase },
};

/**
 * A pod may name a probe of its own: `http:8080/records` is fetched from the pod, and the number of lines and the digest of the answer are
 * the value.
 */
export const probeAnnotation = 'ferry.migration/probe';

/** What one pod was asked. */
interface Answers {
  values: { name: string; value: string }[];
  /** Probes that it could not answer, with the reason; never a value, which nothing could be compared with. */
  missing: { name: string; why: string }[];
}

/** Facts about the components' data, to be compared before and after the move. */
export function createProbeActivities(deps: ProbeDeps): ProbeActivities {
  return { takeProbes: (input) => whileBeating({ waiting: 'probes' }, () => takeProbes(deps, input)) };
}

async function takeProbes(
  deps: ProbeDeps,
  input: { components: PlannedComponent[]; side: 'from' | 'to'; hosts: Host[] },
): Promise<Probe[]> {
  const probes: Probe[] = [];
  for (const component of input.components) {
    const account = await accountOf(deps.api, component);
    for (const replica of component.replicas) {
      const probe = (name: string, value: string, untaken?: string): void => {
        const of = { component: component.kind, ordinal: replica.ordinal, name, value };
        probes.push(untaken === undefined ? of : { ...of, untaken });
      };
      for (const [name, value] of await sentinels(deps.hosts, input, component, replica)) probe(name, value);
      const { values, missing } = await askPod(deps.api, component, replica, account, 'ask-again');
      for (const { name, value } of values) probe(name, value);
      for (const { name, why } of missing) probe(name, '', why);
    }
  }
  return probes;
}

/** How many probes the components answer as they are now; one clause each for those that nothing will compare after the move. */
export async function tryProbes(
  api: KubernetesApi,
  components: readonly PlannedComponent[],
): Promise<{ answered: number; missing: string[] }> {
  const missing: string[] = [];
  let answered = 0;
  for (const component of components) {
    const account = await accountOf(api, component);
    for (const replica of component.replicas) {
      const answers = await askPod(api, component, replica, account, 'tell');
      answered += answers.values.length;
      missing.push(
        ...answers.missing.map(({ name, why }) => `${replica.pod} does not answer the probe ${name}: ${why}`),
      );
    }
  }
  return { answered, missing };
}

/** Files without which a server would start empty. */
async function sentinels(
  hosts: Hosts,
  input: { side: 'from' | 'to'; hosts: Host[] },
  component: PlannedComponent,
  replica: Replica,
): Promise<[string, string][]> {
  const host = input.hosts.find(({ name }) => name === replica[input.side]);
  const groups = componentTable[component.kind].sentinels;
  if (host === undefined || groups.length === 0) return [];
  const directory = input.side === 'from' ? component.dataPath : component.newDataPath;
  return onHost(host.name, 'everything; this step only looks', async () => {
    const connection = await hosts.connect(host);
    const found: [string, string][] = [];
    for (const patterns of groups) {
      const tests = patterns.flatMap((pattern, index) => [
        ...(index === 0 ? [] : ['-o']),
        '-path',
        `${directory}/${pattern}`,
      ]);
      const argv = ['find', directory, '-maxdepth', '3', '(', ...tests, ')', '-print', '-quit'];
      const result = await connection.run(argv, { timeout: 60_000 });
      const present = result.code === 0 && result.stdout.trim() !== '';
      found.push([`sentinel ${patterns[0] ?? ''}`, present ? 'present' : 'absent']);
    }
    return found;
  });
}

async function askPod(
  api: KubernetesApi,
  component: PlannedComponent,
  replica: Replica,
  account: Account | undefined,
  onTrouble: 'ask-again' | 'tell',
): Promise<Answers> {
  const { namespace } = component;
  const pod = await onApi(api, 'Looking for the pods of components', 'everything; this step only looks', () =>
    api.find<Pod>(path('v1', namespace, 'pods', replica.pod)),
  );
  if (pod === undefined) return { values: [], missing: [] };
  const context: ProbeContext = { api, namespace, pod: replica.pod, ...(account && { account }) };
  const own = pod.metadata.annotations?.[probeAnnotation];
  const wanted = [
    ...(own === undefined ? [] : [{ name: 'own', take: (at: ProbeContext) => httpDigest(at, own) }]),
    ...[serviceProbes[component.kind]].filter((probe) => probe !== undefined),
  ];
  const answers: Answers = { values: [], missing: [] };
  for (const { name, take } of wanted) {
    try {
      answers.values.push({ name, value: await take(context) });
    } catch (error) {
      const ready = pod.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True');
      // A server that runs but does not answer just now is asked again; one that has no such interface never will have.
      const temporary = classifyApiError(error) === 'transient' && ready === true && !isProxyRefusal(error);
      if (temporary && onTrouble === 'ask-again') throw await asFailure(api, error);
      answers.missing.push({ name, why: errorText(error).slice(0, reasonLength) });
    }
  }
  return answers;
}

/** The API server answers 5xx also for a pod that does not speak HTTP on that port. */
function isProxyRefusal(error: unknown): boolean {
  return error instanceof Error && error.name === 'ApiError';
}

async function asFailure(api: KubernetesApi, error: unknown): Promise<Error> {
  return onApi<Error>(api, 'Asking a component', 'everything; this step only looks', () =>
    Promise.reject(error instanceof Error ? error : new Error(String(error))),
  ).catch((classified: unknown) => classified as Error);
}

async function accountOf(api: KubernetesApi, component: PlannedComponent): Promise<Account | undefined> {
  const key = componentTable[component.kind].persist?.key;
  if (key === undefined || serviceProbes[component.kind] === undefined) return undefined;
  const secret = await onApi(api, 'Reading the accounts of components', 'everything', () =>
    api.find<Secret>(path('v1', component.namespace, 'secrets', componentsSecretName)),
  );
  const record = secret === undefined ? undefined : decode(secret)[key];
  const params = record === undefined ? undefined : readConfigTexts(record)['params'];
  if (typeof params !== 'object' || params === null) return undefined;
  const { admin_user: user, admin_passwd: password } = params as Record<string, unknown>;
  return typeof user === 'string' && typeof password === 'string' ? { user, password } : undefined;
}

function proxied({ namespace, pod }: ProbeContext, port: number, resource: string): string {
  return `${path('v1', namespace, 'pods', `${pod}:${port}`)}/proxy${resource}`;
}

async function httpDigest(context: ProbeContext, own: string): Promise<string> {
  const match = /^http:(?<port>\d{1,5})(?<resource>\/\S*)$/.exec(own);
  if (match?.groups === undefined) throw new NotTaken(`the annotation must be http:PORT/PATH`);
  const resource = proxied(context, Number(match.groups['port']), match.groups['resource'] ?? '/');
  const answer = await context.api.request<unknown>('GET', resource, { timeout: 60_000 });
  const text = typeof answer === 'string' ? answer : JSON.stringify(answer);
  const lines = text.split('\n').filter((line) => line !== '').length;
  return `${lines} lines, sha256:${createHash('sha256').update(text).digest('hex')}`;
}

async function redisKeys(context: ProbeContext): Promise<string> {
  const { account } = context;
  // Servers before access lists know a password only.
  const logins =
    account === undefined ? [[]] : [[['AUTH', account.password]], [['AUTH', account.user, account.password]]];
  for (const login of logins) {
    const answer = await askRedis(context, [...login, ['INFO', 'keyspace'], ['ECHO', 'ferry-end']]);
    if (!answer.includes('# Keyspace')) continue;
    const databases = [...answer.matchAll(/^(db\d+):keys=(\d+),expires=(\d+)/gm)];
    // Keys with a time to live vanish by themselves.
    return (
      databases.map(([, name, keys, expires]) => `${name ?? ''}=${Number(keys) - Number(expires)}`).join(' ') || 'none'
    );
  }
  throw new NotTaken('redis did not take the recorded account');
}

async function askRedis(context: ProbeContext, commands: readonly string[][]): Promise<string> {
  const socket = await context.api.connect({ namespace: context.namespace, pod: context.pod, port: 6379 });
  try {
    socket.write(Buffer.concat(commands.map(resp)));
    const answer = await socket.read((received) => {
      const lines = received.toString('latin1').split('\r\n').slice(0, -1);
      const refused = lines.length >= commands.length && lines.every((line) => /^[-+]/.test(line));
      return refused || lines.includes('ferry-end');
    });
    return answer.toString('utf8');
  } finally {
    socket.close();
  }
}

function resp(command: readonly string[]): Buffer {
  return Buffer.from(
    `*${command.length}\r\n${command.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join('')}`,
  );
}

/** Keys asked for at once, without their values. */
const etcdPage = 5000;

interface EtcdPage {
  kvs?: { key: string; lease?: string }[];
  more?: boolean;
}

/** Keys with a lease vanish by themselves: whoever kept it alive is stopped. */
async function etcdKeys(context: ProbeContext): Promise<string> {
  const noLimit = Buffer.from([0]).toString('base64');
  let keys = 0;
  let from: string | undefined = noLimit;
  while (from !== undefined) {
    const page: EtcdPage = await context.api.request('POST', proxied(context, 2379, '/v3/kv/range'), {
      body: { key: from, range_end: noLimit, keys_only: true, limit: etcdPage },
      timeout: 60_000,
    });
    if (typeof page !== 'object') throw new NotTaken('etcd did not answer with JSON');
    const { kvs = [], more = false } = page;
    keys += kvs.filter(({ lease = '0' }) => lease === '0').length;
    const last = more ? kvs.at(-1)?.key : undefined;
    // The first key after the last one.
    from = last && Buffer.concat([Buffer.from(last, 'base64'), Buffer.from([0])]).toString('base64');
  }
  return `${keys} keys`;
}

async function mariadbTables(context: ProbeContext): Promise<string> {
  if (context.account === undefined) throw new NotTaken('no account is recorded');
  const socket = await context.api.connect({ namespace: context.namespace, pod: context.pod, port: 3330 });
  const statement =
    "SELECT COUNT(*), COUNT(DISTINCT table_schema) FROM information_schema.tables WHERE table_schema NOT IN ('information_schema', 'performance_schema', 'sys')";
  try {
    const [tables, schemas] = await queryRow(socket, context.account, statement);
    return `${tables ?? '?'} tables in ${schemas ?? '?'} schemas`;
  } catch (error) {
    if (error instanceof MysqlError) throw new NotTaken(`mariadb answered: ${error.message}`);
    throw error;
  } finally {
    socket.close();
  }
}

interface NsqTopic {
  topic_name?: string;
  /** Not yet handed to its channels, each of which has a copy of its own. */
  depth?: number;
  channels?: { channel_name?: string; depth?: number; in_flight_count?: number; deferred_count?: number }[];
}

/**
 * What a consumer had taken and did not finish goes back to the queue, at the latest when the server stops. Topics and channels that are
 * ephemeral vanish with their last consumer, or with the server.
 */
async function nsqMessages(context: ProbeContext): Promise<string> {
  const stats = await context.api.request<{ topics?: NsqTopic[] }>('GET', proxied(context, 4151, '/stats?format=json'));
  if (!Array.isArray(stats.topics)) throw new NotTaken('nsqd did not answer with statistics');
  const lasts = (name = ''): boolean => !name.endsWith('#ephemeral');
  const topics = stats.topics.filter(({ topic_name: name }) => lasts(name));
  const counts = topics.flatMap(({ depth = 0, channels = [] }) => [
    depth,
    ...channels
      .filter(({ channel_name: name }) => lasts(name))
      .flatMap(({ depth: queued = 0, in_flight_count: taken = 0, deferred_count: later = 0 }) => [
        queued,
        taken,
        later,
      ]),
  ]);
  return `${counts.reduce((sum, count) => sum + count, 0)} messages in ${topics.length} topics`;
}

async function grafanaDatabase(context: ProbeContext): Promise<string> {
  const health = await context.api.request<{ database?: string }>('GET', proxied(context, 3000, '/api/health'));
  if (health.database === undefined) throw new NotTaken('grafana did not tell about its database');
  return health.database;
}
