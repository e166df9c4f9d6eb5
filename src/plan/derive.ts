import { componentTable } from './components.ts';
import { planDigest } from './digest.ts';
import type { ComponentFact, Facts } from './facts.ts';
import { planSchema } from './plan.ts';
import { controlSuccessor, packageService } from './quorum.ts';
import type { ComponentKind, Host, Plan, PlanInput, PlannedComponent, Transfer } from './plan.ts';

/** What a person decides; everything else is observed. */
export interface Answers {
  cluster: string;
  author: string;
  createdAt: string;
  mapping: Plan['mapping'];
  /** Extracted dependency package on the control host. Absent: the only one that was found there. */
  packageDirectory?: string;
  home?: string;
  protonCli?: string;
  /** Application namespaces; absent: all that were found. */
  namespaces?: string[];
  containerRegistry?: Plan['containerRegistry'];
  /** New data directory of a component, when it is switched as well. */
  newDataPaths?: Partial<Record<ComponentKind, string>>;
  /** False: old nodes stay in the cluster. Default true. */
  removeOldNodes?: boolean;
  /** How the machines whose services are stopped come back. */
  restart?: 'start' | 'reboot';
  overrides?: Partial<
    Pick<PlanInput, 'gates' | 'limits' | 'downtime' | 'verify' | 'notify' | 'backup' | 'images' | 'bringRsync'>
  >;
}

/** A plan cannot be made yet; `questions` name what only a person can say, by the option that says it. */
export class PlanNotPossible extends Error {
  override readonly name = 'PlanNotPossible';
  readonly problems: string[];
  readonly questions: { option: string; text: string; choices: string[] }[];

  constructor(problems: string[], questions: PlanNotPossible['questions']) {
    super([...problems, ...questions.map((question) => `${question.text} (${question.option})`)].join('\n'));
    this.problems = problems;
    this.questions = questions;
  }
}

export interface Derived {
  plan: Plan;
  /** What the person should know about the plan, one line each. */
  notes: string[];
}

/** Makes the plan from what was observed and answered. Throws PlanNotPossible with everything that stands against it. */
export function derivePlan(facts: Facts, answers: Answers): Derived {
  const problems = mappingProblems(facts, answers);
  const questions: PlanNotPossible['questions'] = [];
  const notes: string[] = [];
  const successors = new Map(answers.mapping.map(({ from, to }) => [from, to]));
  const components = plannedComponents(facts, answers, successors, problems, notes);
  const controlHost = facts.config.masters.find((name) => facts.config.nodes.some((node) => node.name === name));
  if (controlHost === undefined) problems.push('the configuration lists no master among its nodes (cs.master)');
  const packageDirectory = packageOf(facts, answers, controlHost ?? '', questions);
  const removed = (answers.removeOldNodes ?? true) ? answers.mapping.map(({ from }) => from) : [];
  const containerRegistry = registryOf(facts, answers, removed, questions);
  const containerRuntime = facts.config.containerRuntime ?? runtimeOf(facts);
  if (containerRuntime === undefined)
    problems.push('neither the configuration nor the nodes say which container runtime is used');
  const add = addedNodes(facts, answers, problems);
  const host = (name: string): Host | undefined => plannedHost(facts, name, answers, problems);
  const names = new Set([
    ...(controlHost === undefined ? [] : [controlHost]),
    ...facts.config.nodes.map((node) => node.name),
    ...answers.mapping.flatMap(({ from, to }) => [from, to]),
  ]);
  const hosts = [...names].flatMap((name) => host(name) ?? []);
  if (problems.length > 0 || questions.length > 0 || controlHost === undefined || containerRuntime === undefined) {
    throw new PlanNotPossible([...new Set(problems)], questions);
  }
  const registry = registryTransfers(facts, containerRegistry, removed, successors);
  const controlPlane = controlPlaneOf(facts, notes);
  const platform = { controlHost, packageDirectory: packageDirectory ?? '' };
  const carried =
    controlPlane === undefined
      ? []
      : packageTransfers(
          facts,
          platform,
          controlSuccessor({ nodes: { add, remove: removed }, mapping: answers.mapping, platform }),
        );
  const input: PlanInput = {
    apiVersion: 'ferry.migration/v1',
    kind: 'MigrationPlan',
    cluster: answers.cluster,
    author: answers.author,
    createdAt: answers.createdAt,
    platform: {
      configNamespace: facts.configNamespace,
      resourceNamespace: facts.resourceNamespace,
      controlHost,
      packageDirectory: packageDirectory ?? '',
      ...(answers.home === undefined ? {} : { home: answers.home }),
      ...(answers.protonCli === undefined ? {} : { protonCli: answers.protonCli }),
      containerRuntime,
      versions: versionsOf(facts),
    },
    hosts,
    mapping: answers.mapping,
    nodes: { add, remove: removed },
    ...(controlPlane === undefined ? {} : { controlPlane }),
    components,
    transfers: [...components.flatMap((component) => transfersOf(facts, component)), ...registry, ...carried],
    hostServices: {
      ...registryServices(registry),
      ...(answers.restart === undefined ? {} : { restart: answers.restart }),
    },
    containerRegistry,
    applications: { namespaces: answers.namespaces ?? facts.applicationNamespaces },
    ...answers.overrides,
    digest: `sha256:${'0'.repeat(64)}`,
  };
  const plan = planSchema.parse(input);
  return { plan: { ...plan, digest: planDigest(plan) }, notes };
}

function mappingProblems(facts: Facts, answers: Answers): string[] {
  const names = facts.config.nodes.map((node) => node.name);
  const sources = answers.mapping.map(({ from }) => from);
  const targets = answers.mapping.map(({ to }) => to);
  const repeated = (list: string[]): string[] => list.filter((name, index) => list.indexOf(name) !== index);
  return [
    ...repeated(sources).map((name) => `${name} is mapped twice`),
    ...repeated(targets).map((name) => `${name} would replace two nodes`),
    ...sources
      .filter((name) => !names.includes(name))
      .map((name) => `${name} is no node of the platform; its nodes are ${names.join(', ')}`),
    ...targets.filter((name) => sources.includes(name)).map((name) => `${name} is an old and a new node`),
  ];
}

function plannedHost(facts: Facts, name: string, answers: Answers, problems: string[]): Host | undefined {
  const fact = facts.hosts.find((host) => host.name === name);
  const mapped = answers.mapping.some(({ from, to }) => from === name || to === name);
  if (fact === undefined || fact.hostKeys.length === 0) {
    // A node that takes no part may stay unknown.
    if (mapped || name === facts.config.masters[0]) {
      problems.push(
        fact === undefined
          ? `nothing is known about ${name}`
          : `no host key of ${name} (${fact.address}) is known; after comparing it: ssh-keyscan ${fact.address} >> ~/.ssh/known_hosts`,
      );
    }
    return undefined;
  }
  if (fact.unreachable !== undefined && mapped) {
    problems.push(`${name} cannot be reached: ${fact.unreachable}`);
    return undefined;
  }
  const role = answers.mapping.some(({ from }) => from === name)
    ? 'old'
    : answers.mapping.some(({ to }) => to === name)
      ? 'new'
      : 'other';
  const { address, port, user, hostKeys } = fact;
  return { name, address, port, user, hostKeys, role };
}

function plannedComponents(
  facts: Facts,
  answers: Answers,
  successors: ReadonlyMap<string, string>,
  problems: string[],
  notes: string[],
): PlannedComponent[] {
  return facts.components.flatMap((component) => {
    if (component.storageClassName !== undefined) {
      notes.push(`${component.kind} uses the storage class ${component.storageClassName} and is left where it is`);
      return [];
    }
    const dataPath = component.dataPath ?? component.replicas[0]?.live.volumePath ?? defaultPath(component, notes);
    const newDataPath = answers.newDataPaths?.[component.kind] ?? dataPath;
    const moves = component.replicas.some(
      (replica) => (successors.get(replica.host) ?? replica.host) !== replica.host || dataPath !== newDataPath,
    );
    if (!moves) {
      notes.push(`${component.kind} has no replica on an old node and is not touched`);
      return [];
    }
    problems.push(...componentProblems(component));
    return [
      {
        kind: component.kind,
        namespace: component.namespace,
        statefulSets: component.statefulSets,
        dataPath,
        newDataPath,
        replicas: component.replicas.map(({ ordinal, host, pod, pvc, pv }) => ({
          ordinal,
          from: host,
          to: successors.get(host) ?? host,
          pod,
          pvc,
          pv,
        })),
      },
    ];
  });
}

function defaultPath(component: ComponentFact, notes: string[]): string {
  const path = componentTable[component.kind].defaultDataPath;
  notes.push(`${component.kind}: neither configuration nor volume names its directory; the default ${path} is planned`);
  return path;
}

function componentProblems(component: ComponentFact): string[] {
  const problems: string[] = [];
  const hosts = component.replicas.map((replica) => replica.host);
  if (component.recorded !== undefined && component.recorded.hosts.join() !== hosts.join()) {
    problems.push(
      `${component.kind}: proton-cli-config says hosts [${hosts.join(', ')}], component-manage recorded [${component.recorded.hosts.join(', ')}]; apply the configuration first`,
    );
  }
  for (const { ordinal, host, pv, live } of component.replicas) {
    if (live.volumeHost !== undefined && live.volumeHost !== host) {
      problems.push(
        `${component.kind}-${ordinal}: volume ${pv} is on ${live.volumeHost}, the configuration says ${host}`,
      );
    }
    const path = component.dataPath;
    // Where an operator lays out the directory by itself, its volumes lie below it.
    const below = componentTable[component.kind].runTime !== undefined && live.volumePath?.startsWith(`${path}/`);
    if (live.volumePath !== undefined && path !== undefined && live.volumePath !== path && below !== true) {
      problems.push(
        `${component.kind}-${ordinal}: volume ${pv} is at ${live.volumePath}, the configuration says ${path}`,
      );
    }
    if (live.reclaimPolicy !== undefined && live.reclaimPolicy !== 'Retain') {
      problems.push(
        `${component.kind}-${ordinal}: volume ${pv} has reclaim policy ${live.reclaimPolicy}; it must be Retain`,
      );
    }
  }
  return problems;
}

function packageOf(
  facts: Facts,
  answers: Answers,
  controlHost: string,
  questions: PlanNotPossible['questions'],
): string | undefined {
  if (answers.packageDirectory !== undefined) return answers.packageDirectory;
  const found = facts.hosts.find((host) => host.name === controlHost)?.packageDirectories ?? [];
  if (found.length === 1) return found[0];
  questions.push({
    option: '--package DIR',
    text: `Where on ${controlHost} is the extracted dependency package?`,
    choices: found,
  });
  return undefined;
}

function registryOf(
  facts: Facts,
  answers: Answers,
  removed: readonly string[],
  questions: PlanNotPossible['questions'],
): Plan['containerRegistry'] {
  const leaving = facts.config.registryHosts.filter((name) => removed.includes(name));
  if (answers.containerRegistry !== undefined && !(answers.containerRegistry === 'not-moved' && leaving.length > 0)) {
    return answers.containerRegistry;
  }
  if (leaving.length === 0) return 'not-moved';
  questions.push({
    option: '--container-registry re-push|copy-data',
    text: `The container registry is on ${leaving.join(', ')}, which leave: push its images and charts again, or copy its data?`,
    choices: ['re-push', 'copy-data'],
  });
  return 'not-moved';
}

function runtimeOf(facts: Facts): Plan['platform']['containerRuntime'] | undefined {
  const names = new Set(facts.nodes.map((node) => node.runtime?.split(':')[0]));
  return (['containerd', 'docker'] as const).find((name) => names.has(name));
}

function addedNodes(facts: Facts, answers: Answers, problems: string[]): Plan['nodes']['add'] {
  const present = new Set(facts.config.nodes.map((node) => node.name));
  return answers.mapping
    .filter(({ to }) => !present.has(to))
    .flatMap(({ from, to }) => {
      const address = facts.hosts.find((host) => host.name === to)?.address;
      if (address === undefined || !/^\d+(\.\d+){3}$/.test(address)) {
        problems.push(`the IPv4 address of ${to} is not known: --host-address ${to}=A.B.C.D`);
        return [];
      }
      const taken = facts.config.nodes.find((node) => node.ip4 === address);
      if (taken !== undefined) problems.push(`${to} has the address ${address} of the node ${taken.name}`);
      return [{ name: to, ip4: address, controlPlane: facts.config.masters.includes(from) }];
    });
}

function transfersOf(facts: Facts, component: PlannedComponent): Transfer[] {
  return component.replicas
    .filter((replica) => replica.from !== replica.to || component.dataPath !== component.newDataPath)
    .map((replica) =>
      observed(facts, {
        id: `${component.kind}-${replica.ordinal}`,
        subject: { type: 'component', component: component.kind, ordinal: replica.ordinal },
        source: { host: replica.from, path: component.dataPath },
        destination: { host: replica.to, path: component.newDataPath },
      }),
    );
}

function observed(facts: Facts, transfer: Transfer): Transfer {
  const source = facts.sources.find(({ host, path }) => host === transfer.source.host && path === transfer.source.path);
  const destination = facts.destinations.find(
    ({ host, path }) => host === transfer.destination.host && path === transfer.destination.path,
  );
  if (source === undefined || destination === undefined) return transfer;
  const { bytes, files } = source;
  return { ...transfer, observed: { bytes, files, freeBytes: destination.freeBytes } };
}

function registryTransfers(
  facts: Facts,
  choice: Plan['containerRegistry'],
  removed: readonly string[],
  successors: ReadonlyMap<string, string>,
): Transfer[] {
  const path = facts.config.registryStorage;
  if (choice !== 'copy-data' || path === undefined) return [];
  return facts.config.registryHosts
    .filter((name) => removed.includes(name))
    .map((from) =>
      observed(facts, {
        id: `host-${from}-cr-data`,
        subject: { type: 'host-service', service: 'cr-data' },
        source: { host: from, path },
        destination: { host: successors.get(from) ?? from, path },
      }),
    );
}

/** Where the masters themselves are members of etcd, their exchange is part of the migration. */
function controlPlaneOf(facts: Facts, notes: string[]): PlanInput['controlPlane'] {
  const { masters } = facts.config;
  const stacked = masters.filter((name) => facts.hosts.find((host) => host.name === name)?.staticControlPlane === true);
  if (stacked.length === 0) return undefined;
  const unclear = masters.filter((name) => !stacked.includes(name));
  if (unclear.length > 0) {
    notes.push(
      `${unclear.join(', ')}: master without static pods of etcd and API server, or not asked; check finds out`,
    );
  }
  return { etcd: 'stacked', masters };
}

/** The package that proton-cli works in travels to the master that takes over from the control host. */
function packageTransfers(
  facts: Facts,
  { controlHost, packageDirectory }: Pick<Plan['platform'], 'controlHost' | 'packageDirectory'>,
  successor: string | undefined,
): Transfer[] {
  if (successor === undefined) return [];
  return [
    observed(facts, {
      id: `host-${controlHost}-${packageService}`,
      subject: { type: 'host-service', service: packageService },
      source: { host: controlHost, path: packageDirectory },
      destination: { host: successor, path: packageDirectory },
    }),
  ];
}

/** Only the registry's own units stop for its copy: stopping kubelet or containerd there would take masters away. */
function registryServices(transfers: readonly Transfer[]): NonNullable<PlanInput['hostServices']> {
  if (transfers.length === 0) return {};
  return {
    hosts: [...new Set(transfers.map((transfer) => transfer.source.host))],
    units: ['proton-cr', 'proton-cr-registry', 'proton-cr-chartmuseum'],
  };
}

function versionsOf(facts: Facts): Record<string, string> {
  const packages = facts.hosts.flatMap(({ name, packageVersion }) =>
    packageVersion === undefined ? [] : [[`package/${name}`, packageVersion] as const],
  );
  const components = facts.components.flatMap(({ kind, recorded }) =>
    recorded?.version === undefined ? [] : [[`component/${kind}`, recorded.version] as const],
  );
  const kubernetes = facts.kubernetesVersion === undefined ? [] : [['kubernetes', facts.kubernetesVersion] as const];
  return Object.fromEntries([...kubernetes, ...packages, ...components]);
}
