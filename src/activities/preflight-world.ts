import { connect } from 'node:net';
import type { HostConnection, Hosts } from '../hosts/contract.ts';
import { componentFacts, configFacts } from '../plan/config-facts.ts';
import type { ComponentFact, ConfigFact, NodeFact } from '../plan/facts.ts';
import { defaultBackupDirectory, type Host, type Plan } from '../plan/plan.ts';
import type { CheckResult, MasterActivities } from './contract.ts';
import { defaultDeadlines } from './deadlines.ts';
import { createEtcdActivities } from './etcd.ts';
import { observeComponent, observeNodes, readConfig, readRecords } from './facts.ts';
import { errorText } from './failures.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import { pause } from './polling.ts';

/** The platform as the API describes it. Values of Secrets stay in `document` and `records`. */
export interface ClusterView {
  document: string;
  records: Record<string, string>;
  config: ConfigFact;
  nodes: NodeFact[];
  components: ComponentFact[];
}

/** What the checks look at. Everything is read once, when the first check asks for it. */
export interface World {
  plan: Plan;
  api: KubernetesApi;
  cluster(): Promise<ClusterView>;
  /** A machine of the plan by name. */
  connect(name: string): Promise<HostConnection>;
  /** Machines that take part: control host, old and new ones. */
  machines: Host[];
  control: Host | undefined;
  oldNames: string[];
  newNames: string[];
  time: Time;
  listMembers: MasterActivities['listMembers'];
  /** How a port answers from here, where the checks run. */
  dial: (address: string, port: number) => Promise<Door>;
  /** The migration that asks; absent where none does. */
  workflowId: string | undefined;
  /** Boot id of the worker's machine; absent where somebody else than the worker checks. */
  workerBootId: (() => Promise<string | undefined>) | undefined;
}

/** `open`, `refused` (reached, nobody listens) or `silent`. */
export type Door = 'open' | 'refused' | 'silent';

const dial: World['dial'] = (host, port) =>
  new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (door: Door): void => {
      socket.destroy();
      resolve(door);
    };
    socket.setTimeout(3000, () => end('silent'));
    socket.once('connect', () => end('open'));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => end(code === 'ECONNREFUSED' ? 'refused' : 'silent'));
  });

/** Milliseconds, of both kinds of clock, and time that passes. */
interface Time {
  /** Since the epoch: what other machines' clocks are compared with. */
  now(): number;
  /** Since any moment: how long something took, whatever is done to the clock meanwhile. */
  elapsed(): number;
  pause(milliseconds: number): Promise<void>;
}

const systemTime: Time = { now: () => Date.now(), elapsed: () => performance.now(), pause };

/** What the checks reach the world with. */
export interface PreflightDeps {
  api: KubernetesApi;
  hosts: Hosts;
  time?: Time;
  /** Default: asks the machines. */
  listMembers?: MasterActivities['listMembers'];
  /** Default: over the network. */
  dial?: World['dial'];
  workerBootId?: () => Promise<string | undefined>;
  workflowId?: string;
}

/** One row of the table of checks. `run` answers what is wrong; nothing wrong is an ok with `proof`. */
export interface Check {
  name: string;
  run(world: World): Promise<Finding>;
}

export interface Finding {
  /** What stands against the migration, one clause each. */
  failures?: string[];
  /** What a person should know, but does not stand against it. */
  warnings?: string[];
  /** The command that helps. */
  next?: string;
  /** What was seen when nothing is wrong. */
  proof?: string;
}

export function openWorld(plan: Plan, deps: PreflightDeps): World {
  const { api, hosts } = deps;
  const oldNames = plan.mapping.map(({ from }) => from);
  const newNames = plan.mapping.map(({ to }) => to);
  const { controlHost } = plan.platform;
  const involved = new Set([controlHost, ...oldNames, ...newNames]);
  let view: Promise<ClusterView> | undefined;
  return {
    plan,
    api,
    cluster: () => (view ??= readCluster(plan, api)),
    connect: async (name) => {
      const host = plan.hosts.find((entry) => entry.name === name);
      if (host === undefined) throw new Error(`the plan does not say how to reach ${name}`);
      return hosts.connect(host);
    },
    machines: plan.hosts.filter((host) => involved.has(host.name)),
    control: plan.hosts.find((host) => host.name === controlHost),
    oldNames,
    newNames,
    time: deps.time ?? systemTime,
    listMembers:
      deps.listMembers ??
      createEtcdActivities({ hosts, backup: { directory: defaultBackupDirectory }, deadlines: defaultDeadlines })
        .listMembers,
    dial: deps.dial ?? dial,
    workflowId: deps.workflowId,
    workerBootId: deps.workerBootId,
  };
}

async function readCluster(plan: Plan, api: KubernetesApi): Promise<ClusterView> {
  const { configNamespace, resourceNamespace } = plan.platform;
  const document = await readConfig(api, configNamespace);
  const records = await readRecords(api, resourceNamespace);
  const components: ComponentFact[] = [];
  for (const component of componentFacts(document, records, resourceNamespace)) {
    components.push(await observeComponent(api, component));
  }
  return { document, records, config: configFacts(document), nodes: await observeNodes(api), components };
}

/** Runs one check. Whatever it throws is a failed check: it could not be shown that all is well. */
export async function runCheck(check: Check, world: World): Promise<CheckResult> {
  try {
    return resultOf(check.name, await check.run(world));
  } catch (error) {
    return {
      name: check.name,
      state: 'failed',
      cause: `could not be checked: ${errorText(error)}`,
      next: 'set right what stands in the way, then: ferry check PLAN',
    };
  }
}

function resultOf(name: string, finding: Finding): CheckResult {
  const { failures = [], warnings = [], next, proof } = finding;
  if (failures.length + warnings.length === 0) {
    return { name, state: 'ok', ...(proof === undefined ? {} : { cause: proof }) };
  }
  return {
    name,
    state: failures.length > 0 ? 'failed' : 'warning',
    cause: [...failures, ...warnings].join('; '),
    ...(next === undefined ? {} : { next }),
  };
}

/** What every machine answers, side by side; a machine that fails is a clause of its own. */
export async function askMachines(
  world: World,
  names: readonly string[],
  ask: (connection: HostConnection, name: string) => Promise<string | undefined>,
): Promise<string[]> {
  const answers = await Promise.all(
    names.map(async (name) => {
      try {
        return await ask(await world.connect(name), name);
      } catch (error) {
        return `${name}: ${errorText(error)}`;
      }
    }),
  );
  return answers.filter((answer) => answer !== undefined);
}
