import { z } from 'zod';
import type { Workload } from '../activities/applications.ts';
import { breadcrumbs, isActive } from '../activities/applications.ts';
import { decrypt, readKey } from '../activities/backup-cipher.ts';
import { findLease, holderOf } from '../activities/cluster-lease.ts';
import { defaultDeadlines } from '../activities/deadlines.ts';
import { createEtcdActivities } from '../activities/etcd.ts';
import { hasStaticControlPlane, observeFacts, observeNodes } from '../activities/facts.ts';
import { errorText } from '../activities/failures.ts';
import { hostState, stoppedUnitsSchema } from '../activities/host-state.ts';
import type { KubernetesApi, KubernetesObject } from '../activities/kubernetes-api.ts';
import { path } from '../activities/kubernetes-api.ts';
import { sha256 } from '../activities/platform-secrets.ts';
import { ownLabel } from '../activities/proton-cli.ts';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import type { KnownHost } from '../hosts/known-hosts.ts';
import { lookUpHostKeys } from '../hosts/known-hosts.ts';
import { configKey } from '../plan/config-edit.ts';
import { componentFacts, configFacts } from '../plan/config-facts.ts';
import type { Facts } from '../plan/facts.ts';
import type { Host } from '../plan/plan.ts';
import { defaultBackupDirectory } from '../plan/plan.ts';
import type { Findings, FoundBackup, Machine, MarkedWorkload } from './break-glass-assess.ts';
import { CliError } from './errors.ts';

/* Reading what a migration left in the cluster and on the machines. Changes nothing; values of Secrets stay inside. */

export interface LookInput {
  cluster?: string;
  configNamespace: string;
  resourceNamespace: string;
  backupDirectory: string;
  backupKeyFile?: string;
  controlHost?: string;
  hostAddress: Record<string, string>;
  sshUser: string;
  sshPort: number;
}

interface Deps {
  api: KubernetesApi;
  hosts: Hosts;
  knownHosts: readonly KnownHost[];
}

export interface Look {
  findings: Findings;
  /** How to read the backup once more, for those who want it here. */
  control?: HostConnection;
}

export async function look(deps: Deps, input: LookInput): Promise<Look> {
  const marked = await readMarked(deps.api);
  const { facts, trouble } = await readFacts(deps, input);
  const clusterNodes = await observeNodes(deps.api);
  const lease = await findLease(deps.api, input.configNamespace);
  const { workflowId } = lease === undefined ? { workflowId: '' } : holderOf(lease);
  const prepared = await readPrepared(deps.api, input.configNamespace);
  const machines = machinesOf(deps, input, facts, clusterNodes);
  const silent: Findings['silent'] = [];
  const connections = new Map<string, HostConnection>();
  await Promise.all(
    machines.map(async (machine) => {
      const { name, hostKeys } = machine;
      try {
        if (hostKeys.length === 0) throw new Error('its host key is not known (FERRY_KNOWN_HOSTS, ~/.ssh/known_hosts)');
        connections.set(name, await deps.hosts.connect(machine));
      } catch (error) {
        silent.push({ name, why: errorText(error) });
      }
    }),
  );
  const controlName =
    input.controlHost ?? facts?.config.masters[0] ?? clusterNodes.find((node) => node.controlPlane)?.name;
  const control = controlName === undefined ? undefined : connections.get(controlName);
  const migrations = new Set([
    ...marked.map(({ migration }) => migration),
    ...prepared.map(({ migration }) => migration),
  ]);
  if (control !== undefined) for (const name of await listBackups(control, input.backupDirectory)) migrations.add(name);
  const migration = chooseMigration(migrations, input.cluster);
  const controlMachine = machines.find(({ name }) => name === controlName);
  const backup = control === undefined ? undefined : await readBackup(control, input, migration);
  const running: Findings['running'] = [];
  const stopped: Findings['stopped'] = [];
  for (const machine of machines) {
    const connection = connections.get(machine.name);
    if (connection === undefined) continue;
    running.push(...(await runningUnits(connection)).map((unit) => ({ machine: plain(machine), unit })));
    const units = await stoppedUnits(connection, migration);
    if (units.length > 0) stopped.push({ machine: plain(machine), units });
  }
  const members = await readMembers(deps, machines, connections);
  const packageDirectory = facts?.hosts.find(({ name }) => name === controlName)?.packageDirectories[0];
  const findings: Findings = {
    migration,
    ...(workflowId !== '' && { workflowId }),
    configNamespace: input.configNamespace,
    resourceNamespace: input.resourceNamespace,
    marked: marked.filter((workload) => workload.migration === migration).map(({ migration: _, ...rest }) => rest),
    ...(trouble === undefined ? {} : { configTrouble: trouble }),
    configNodes: facts?.config.nodes.map(({ name }) => name) ?? [],
    clusterNodes: clusterNodes.map(({ name, ready }) => ({ name, ready })),
    components: (facts?.components ?? []).map(({ kind, namespace, replicas }) => ({
      kind,
      namespace,
      replicas: replicas.map(({ ordinal, host, pvc, pv, live }) => ({
        ordinal,
        host,
        pvc,
        pv,
        ...(live.volumeHost === undefined ? {} : { volumeHost: live.volumeHost }),
        ...(live.node === undefined ? {} : { node: live.node }),
      })),
    })),
    prepared: prepared.filter((entry) => entry.migration === migration).map(({ stage }) => stage),
    ...(controlMachine === undefined ? {} : { control: plain(controlMachine) }),
    ...(packageDirectory === undefined ? {} : { packageDirectory }),
    home: '/root',
    protonCli: 'proton-cli',
    ...(backup === undefined ? {} : { backup }),
    running,
    stopped,
    silent,
    ...members,
  };
  return { findings, ...(control === undefined ? {} : { control }) };
}

const markedKinds = [
  ['Deployment', 'apps/v1', 'deployments'],
  ['StatefulSet', 'apps/v1', 'statefulsets'],
  ['DaemonSet', 'apps/v1', 'daemonsets'],
  ['CronJob', 'batch/v1', 'cronjobs'],
  ['Job', 'batch/v1', 'jobs'],
  ['HorizontalPodAutoscaler', 'autoscaling/v2', 'horizontalpodautoscalers'],
] as const;

async function readMarked(api: KubernetesApi): Promise<(MarkedWorkload & { migration: string })[]> {
  const found: (MarkedWorkload & { migration: string })[] = [];
  for (const [kind, groupVersion, plural] of markedKinds) {
    for (const object of await api.list<Workload>(path(groupVersion, undefined, plural))) {
      const { metadata } = object;
      const migration = metadata.annotations?.[breadcrumbs.migration];
      if (migration === undefined) continue;
      const marks = Object.fromEntries(
        Object.entries(metadata.annotations ?? {}).filter(([key]) => key.startsWith('ferry.migration/')),
      );
      const runs = isActive({ kind, object });
      found.push({ kind, namespace: metadata.namespace ?? '', name: metadata.name, marks, runs, migration });
    }
  }
  return found;
}

/** Through any master that answers; nothing where no master runs on these machines. */
async function readMembers(
  deps: Deps,
  machines: readonly (Machine & { hostKeys: string[] })[],
  connections: ReadonlyMap<string, HostConnection>,
): Promise<Pick<Findings, 'members' | 'membersTrouble'>> {
  const via: Host[] = [];
  for (const machine of machines) {
    const connection = connections.get(machine.name);
    if (connection !== undefined && (await isMaster(connection))) via.push({ ...machine, role: 'other' });
  }
  if (via.length === 0) return {};
  try {
    const { members } = await createEtcdActivities({
      hosts: deps.hosts,
      backup: { directory: defaultBackupDirectory },
      deadlines: defaultDeadlines,
    }).listMembers({ via });
    return {
      members: members.map(({ id, name, leader, healthy }) => {
        const machine = machines.find((one) => one.name === name);
        return { id, name, leader, healthy, ...(machine === undefined ? {} : { machine: plain(machine) }) };
      }),
    };
  } catch (error) {
    return { membersTrouble: errorText(error) };
  }
}

async function isMaster(connection: HostConnection): Promise<boolean> {
  try {
    return await hasStaticControlPlane(connection);
  } catch {
    return false;
  }
}

/** The facts that a plan is made from; a configuration that cannot be read must not stop the looking. */
async function readFacts(deps: Deps, input: LookInput): Promise<{ facts?: Facts; trouble?: string }> {
  try {
    const facts = await observeFacts(deps, {
      mapping: [],
      measure: false,
      addresses: input.hostAddress,
      user: input.sshUser,
      port: input.sshPort,
      configNamespace: input.configNamespace,
      resourceNamespace: input.resourceNamespace,
    });
    return { facts };
  } catch (error) {
    return { trouble: errorText(error) };
  }
}

async function readPrepared(api: KubernetesApi, namespace: string): Promise<{ stage: string; migration: string }[]> {
  const secrets = await api.list<KubernetesObject>(path('v1', namespace, 'secrets'), { labelSelector: ownLabel });
  return secrets.flatMap(({ metadata }) => {
    const migration = metadata.labels?.[ownLabel];
    const stage = /^ferry-config-(?<stage>.+)$/.exec(metadata.name)?.groups?.['stage'];
    return migration === undefined || stage === undefined ? [] : [{ stage, migration }];
  });
}

function machinesOf(
  deps: Deps,
  input: LookInput,
  facts: Facts | undefined,
  nodes: readonly { name: string; address?: string }[],
): (Machine & { hostKeys: string[] })[] {
  const names = new Set([
    ...nodes.map(({ name }) => name),
    ...(facts?.config.nodes.map(({ name }) => name) ?? []),
    ...(input.controlHost === undefined ? [] : [input.controlHost]),
  ]);
  return [...names].map((name) => {
    const configured = facts?.config.nodes.find((node) => node.name === name)?.ip4;
    const address = input.hostAddress[name] ?? configured ?? nodes.find((node) => node.name === name)?.address ?? name;
    const hostKeys = lookUpHostKeys(deps.knownHosts, [name, address], input.sshPort);
    return { name, address, port: input.sshPort, user: input.sshUser, hostKeys };
  });
}

function plain({ name, user, address, port }: Machine): Machine {
  return { name, user, address, port };
}

export function chooseMigration(found: ReadonlySet<string>, wanted: string | undefined): string {
  if (wanted !== undefined) return wanted;
  const [only] = found;
  if (only !== undefined && found.size === 1) return only;
  throw only === undefined
    ? new CliError(
        'notFound',
        'no trace of a migration was found: no workload carries breadcrumbs, no configuration was prepared, and there is no backup on the control host',
        'if it is elsewhere: ferry break-glass --control-host NAME --backup-directory DIR',
      )
    : new CliError(
        'usage',
        `there are traces of several migrations: ${[...found].toSorted().join(', ')}`,
        'name the one you mean: --cluster NAME',
      );
}

async function lines(connection: HostConnection, argv: readonly string[]): Promise<string[]> {
  const { code, stdout } = await connection.run(argv, { timeout: 30_000 });
  return code === 0 ? stdout.split('\n').filter((line) => line !== '') : [];
}

function listBackups(control: HostConnection, directory: string): Promise<string[]> {
  return lines(control, ['ls', '-1', '--', directory]);
}

async function runningUnits(connection: HostConnection): Promise<string[]> {
  const states = ['--state=active,activating,deactivating', '--no-legend', '--plain', '--type=service'];
  const found = await lines(connection, ['systemctl', 'list-units', ...states, 'ferry-*']);
  // The worker itself may be a unit of such a name; only jobs are transient ones.
  return found.flatMap((line) => line.trim().split(/\s+/)[0] ?? []).filter((unit) => unit !== 'ferry-worker.service');
}

async function stoppedUnits(connection: HostConnection, migration: string): Promise<string[]> {
  const content = await connection.readFile(hostState(migration).stoppedUnits);
  const parsed = stoppedUnitsSchema.safeParse(content === undefined ? undefined : JSON.parse(content.toString('utf8')));
  return parsed.success && !parsed.data.restored ? parsed.data.units : [];
}

const manifestSchema = z.looseObject({
  takenAt: z.string(),
  encrypted: z.boolean(),
  files: z.array(z.looseObject({ name: z.string().regex(/^[A-Za-z0-9._-]+$/), digest: z.string() })),
});

/** The newest whole backup: one with a manifest. */
async function readBackup(
  control: HostConnection,
  input: LookInput,
  migration: string,
): Promise<FoundBackup | undefined> {
  const parent = `${input.backupDirectory}/${migration}`;
  const names = (await lines(control, ['ls', '-1', '--', parent])).toSorted().reverse();
  for (const name of names) {
    const directory = `${parent}/${name}`;
    const content = await control.readFile(`${directory}/manifest.json`);
    const manifest = manifestSchema.safeParse(content === undefined ? undefined : JSON.parse(content.toString('utf8')));
    if (!manifest.success) continue;
    const { takenAt, encrypted, files } = manifest.data;
    const found: FoundBackup = { directory, takenAt, encrypted, files: files.map((file) => file.name) };
    return { ...found, ...(await contentOf(control, found, input)) };
  }
  return undefined;
}

/** Names of nodes, masters and hosts from the saved configuration; nothing when it is encrypted and no key is at hand. */
async function contentOf(
  control: HostConnection,
  backup: FoundBackup,
  input: LookInput,
): Promise<Pick<FoundBackup, 'nodes' | 'masters' | 'components'>> {
  if (backup.encrypted && input.backupKeyFile === undefined) return {};
  const files = await readBackupFiles(control, backup, input.backupKeyFile);
  const read = (namespace: string, name: string): Record<string, string> => {
    const text = files.get(`secret-${namespace}-${name}.json`)?.toString('utf8');
    const parsed = z.looseObject({ data: z.record(z.string(), z.string()) }).safeParse(JSON.parse(text ?? '{}'));
    if (!parsed.success) return {};
    return Object.fromEntries(
      Object.entries(parsed.data.data).map(([key, value]) => [key, Buffer.from(value, 'base64').toString('utf8')]),
    );
  };
  const document = read(input.configNamespace, 'proton-cli-config')[configKey];
  if (document === undefined) return {};
  const records = read(input.resourceNamespace, 'persist-component-manage-components');
  const { nodes, masters } = configFacts(document);
  return {
    nodes: nodes.map(({ name }) => name),
    masters,
    components: componentFacts(document, records, input.resourceNamespace)
      .filter(({ storageClassName }) => storageClassName === undefined)
      .map(({ kind, replicas }) => ({ kind, hosts: replicas.map(({ host }) => host) })),
  };
}

/** The files of a backup as they were, by the name they had; every one is held against its digest in the manifest. */
export async function readBackupFiles(
  control: HostConnection,
  backup: FoundBackup,
  keyFile: string | undefined,
): Promise<Map<string, Buffer>> {
  const key = keyFile === undefined ? undefined : await readKey(keyFile);
  const content = await control.readFile(`${backup.directory}/manifest.json`);
  const manifest = manifestSchema.parse(JSON.parse(content?.toString('utf8') ?? '{}'));
  const files = new Map<string, Buffer>();
  for (const { name, digest } of manifest.files) {
    const stored = await control.readFile(`${backup.directory}/${name}`);
    if (stored === undefined) throw damaged(backup, name, 'it is missing');
    if (backup.encrypted && key === undefined) {
      throw new CliError(
        'usage',
        `the backup ${backup.directory} is encrypted`,
        'name its key: --backup-key-file FILE',
      );
    }
    const bytes = backup.encrypted && key !== undefined ? decrypt(stored, key, name) : stored;
    if (sha256(bytes) !== digest) throw damaged(backup, name, 'its digest is not that of the manifest');
    files.set(name.replace(/\.aes$/, ''), bytes);
  }
  return files;
}

function damaged(backup: FoundBackup, name: string, why: string): CliError {
  return new CliError(
    'failure',
    `the backup ${backup.directory}/${name} cannot be used: ${why}; nothing was changed`,
    'look for another backup beside it',
  );
}
