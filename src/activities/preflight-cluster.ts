import { componentRows, componentTable } from '../plan/components.ts';
import { findLease, holderOf } from './cluster-lease.ts';
import { configSecretName } from './platform-secrets.ts';
import { editComponentsSecret } from '../plan/components-secret.ts';
import { editConfig } from '../plan/config-edit.ts';
import { refusals } from '../plan/config-refusals.ts';
import { defaultDeadlines } from './deadlines.ts';
import { clusterProblems } from './kubernetes.ts';
import { type KubernetesObject, path } from './kubernetes-api.ts';
import type { ComponentFact } from '../plan/facts.ts';
import type { ComponentKind, PlannedComponent } from '../plan/plan.ts';
import { counted } from '../plan/counted.ts';
import type { Check, Finding, World } from './preflight-world.ts';
import { tryProbes } from './probes.ts';

interface Workload extends KubernetesObject {
  spec: { replicas?: number };
  status?: { readyReplicas?: number; observedGeneration?: number };
}

interface Pod extends KubernetesObject {
  status?: { phase?: string };
}

/** Checks that need nothing but the Kubernetes API. */
export const clusterChecks: readonly Check[] = [
  { name: 'api', run: checkApi },
  { name: 'other-migrations', run: checkOthers },
  { name: 'nodes-known', run: checkNodesKnown },
  { name: 'nodes-ready', run: checkNodesReady },
  { name: 'cluster-health', run: checkClusterHealth },
  { name: 'hostname-label', run: checkHostnameLabel },
  { name: 'mapping', run: checkMapping },
  { name: 'container-runtime', run: checkRuntime },
  { name: 'deploy-namespace', run: checkDeployNamespace },
  { name: 'masters', run: checkMasters },
  { name: 'name-order', run: checkNameOrder },
  { name: 'container-registry', run: checkRegistry },
  { name: 'eceph', run: checkEceph },
  { name: 'component-list', run: checkComponentList },
  { name: 'config-edits', run: checkEdits },
  { name: 'operators', run: checkOperators },
  { name: 'applications', run: checkApplications },
  { name: 'probes', run: checkProbes },
];

/** One check per planned component. */
export function componentChecks(kinds: readonly ComponentKind[]): Check[] {
  return kinds.map((kind) => ({ name: `component/${kind}`, run: (world) => checkComponent(world, kind) }));
}

async function checkApi(world: World): Promise<Finding> {
  const { api, plan, time } = world;
  await api.request('GET', '/readyz');
  const secret = path('v1', plan.platform.configNamespace, 'secrets', configSecretName);
  const slow: string[] = [];
  for (let read = 1; read <= 3; read += 1) {
    const start = time.elapsed();
    await api.request('GET', secret);
    const seconds = (time.elapsed() - start) / 1000;
    if (seconds >= 1) slow.push(`read ${read} of the configuration took ${seconds.toFixed(1)} s`);
  }
  return {
    failures: slow,
    next: 'find out why the API is slow: above 3 s proton-cli installs a new cluster over the live one',
    proof: `${api.server} is ready, the configuration was read three times under a second`,
  };
}

/** Whether one that holds the cluster is still at work only Temporal knows; the workflow asks it. */
async function checkOthers(world: World): Promise<Finding> {
  const { configNamespace } = world.plan.platform;
  const lease = await findLease(world.api, configNamespace);
  const holder = lease && holderOf(lease).workflowId;
  if (holder === undefined || holder === world.workflowId) return { proof: 'no other migration holds this cluster' };
  return {
    warnings: [`migration ${holder} holds this cluster since ${lease?.spec?.acquireTime ?? 'some time'}`],
    next: `ferry status ${holder}; until it has ended, another one is refused before it does anything`,
  };
}

async function checkNodesKnown(world: World): Promise<Finding> {
  const { nodes, config } = await world.cluster();
  const listed = config.nodes.map((node) => node.name);
  const live = nodes.map((node) => node.name);
  const failures = [
    ...live
      .filter((name) => !listed.includes(name))
      .map((name) => `Node ${name} is not in the configuration: the next apply would delete it`),
    ...listed.filter((name) => !live.includes(name)).map((name) => `${name} is in the configuration but is no Node`),
  ];
  if (listed.length === 0) failures.push('the configuration lists no node: an apply would be a fresh install');
  return {
    failures,
    next: 'bring the configuration and the cluster together first (proton-cli edit conf, kubectl delete node)',
    proof: `${counted(live.length, 'node')}, the same in cluster and configuration`,
  };
}

async function checkNodesReady(world: World): Promise<Finding> {
  const { nodes } = await world.cluster();
  return {
    failures: nodes.filter((node) => !node.ready).map((node) => `${node.name} is not Ready`),
    next: 'kubectl describe node NAME; journalctl -u kubelet on it',
    proof: `${counted(nodes.length, 'node')} Ready`,
  };
}

/** What is waited for after every apply and before people accept the result: an illness of before would stop the migration there, and its way back as well. */
async function checkClusterHealth(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  const namespaces = ['kube-system', world.plan.platform.resourceNamespace];
  const nodes = config.nodes.map(({ name }) => name);
  return {
    failures: await whatStays(world, () => clusterProblems(world.api, { nodes, namespaces })),
    next: 'kubectl -n NAMESPACE describe pod POD; kubectl -n NAMESPACE logs POD; repair it or remove what it belongs to, then check again: inside the window the migration would wait for it, on the way back too',
    proof: `no unhealthy pod in ${namespaces.join(', ')}`,
  };
}

/** Problems that do not pass by themselves within a short time; where there are none, one look is enough. */
async function whatStays({ time }: World, look: () => Promise<string[]>): Promise<string[]> {
  let problems = await look();
  if (problems.length === 0) return [];
  const began = time.elapsed();
  let soundSince: number | undefined;
  // Who was sound at the last look gets the time to show that it stays so.
  while (soundSince !== undefined || time.elapsed() - began < defaultDeadlines.settled) {
    await time.pause(2000);
    const found = await look();
    if (found.length > 0) {
      problems = found;
      soundSince = undefined;
      continue;
    }
    soundSince ??= time.elapsed();
    if (time.elapsed() - soundSince >= defaultDeadlines.staysSettled) return [];
  }
  return problems;
}

async function checkHostnameLabel(world: World): Promise<Finding> {
  const { nodes } = await world.cluster();
  return {
    failures: nodes
      .filter((node) => node.hostnameLabel !== node.name)
      .map((node) => `${node.name} has kubernetes.io/hostname=${node.hostnameLabel ?? '(none)'}`),
    next: 'volumes are bound to that label: kubectl label node NAME kubernetes.io/hostname=NAME --overwrite',
    proof: 'kubernetes.io/hostname equals the name of every node',
  };
}

async function checkMapping(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  const listed = new Map(config.nodes.map((node) => [node.name, node.ip4]));
  const failures = world.oldNames
    .filter((name) => !listed.has(name))
    .map((name) => `old node ${name} is no node of the platform`);
  for (const node of world.plan.nodes.add) {
    const present = listed.get(node.name);
    if (present !== undefined && present !== node.ip4) {
      failures.push(`${node.name} is already a node, with address ${present} instead of ${node.ip4}`);
    }
    const other = config.nodes.find((entry) => entry.ip4 === node.ip4 && entry.name !== node.name);
    if (other !== undefined) failures.push(`${node.ip4} of ${node.name} is the address of ${other.name}`);
  }
  const missing = world.newNames.filter(
    (name) => !listed.has(name) && !world.plan.nodes.add.some((node) => node.name === name),
  );
  failures.push(...missing.map((name) => `new node ${name} is no node and is not added by the plan`));
  const present = world.plan.nodes.add.filter((node) => listed.has(node.name)).map((node) => node.name);
  return {
    failures,
    warnings: present.map((name) => `${name} is a node already and will not be added again`),
    next: 'ferry plan makes a plan that fits the cluster as it is now',
    proof: world.plan.mapping.map(({ from, to }) => `${from} → ${to}`).join(', '),
  };
}

async function checkRuntime(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  const planned = world.plan.platform.containerRuntime;
  const failures: string[] = [];
  if (config.containerRuntime === undefined) {
    failures.push(
      'cs.container_runtime is not set: the platform cannot add nodes ("unsupported container runtime source")',
    );
  } else if (config.containerRuntime !== planned) {
    failures.push(`the platform uses ${config.containerRuntime}, the plan says ${planned}`);
  }
  return { failures, next: 'proton-cli edit conf: set cs.container_runtime; then make the plan again', proof: planned };
}

async function checkDeployNamespace(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  return {
    failures:
      config.deployNamespace === undefined
        ? []
        : [
            `deploy.namespace is ${config.deployNamespace}: the platform would not reinstall mariadb, mongodb and nebula`,
          ],
    next: 'proton-cli edit conf: take deploy.namespace out',
    proof: 'not set',
  };
}

async function checkMasters(world: World): Promise<Finding> {
  const { config, nodes } = await world.cluster();
  const { plan } = world;
  const added = new Set(plan.nodes.add.map((node) => node.name));
  const failures: string[] = [];
  const first = config.masters[0];
  if (first === undefined) failures.push('cs.master is empty');
  else if (added.has(first))
    failures.push(`cs.master starts with the new node ${first}; join keys come from an original one`);
  const live = nodes.filter((node) => node.controlPlane).map((node) => node.name);
  for (const name of config.masters.filter((master) => !live.includes(master))) {
    failures.push(`${name} is in cs.master but no control-plane Node: the next apply would join it as one`);
  }
  if (!live.includes(plan.platform.controlHost)) {
    failures.push(`${plan.platform.controlHost} is no control-plane node; proton-cli runs on one only`);
  }
  const after = [
    ...config.masters,
    ...plan.nodes.add.filter((node) => node.controlPlane).map((node) => node.name),
  ].filter((name) => !plan.nodes.remove.includes(name));
  if (after.length === 0) failures.push('no control-plane node would be left');
  return {
    failures,
    warnings:
      after.length > 0 && after.length < config.masters.length
        ? [`masters go from ${config.masters.length} to ${after.length}`]
        : [],
    next: 'correct nodes.add[].controlPlane of the plan or cs.master of the configuration',
    proof: `${config.masters.join(', ')}; afterwards ${after.join(', ')}`,
  };
}

async function checkNameOrder(world: World): Promise<Finding> {
  const { nodes } = await world.cluster();
  const { plan } = world;
  const controlPlane = new Set([
    ...nodes.filter((node) => node.controlPlane).map((node) => node.name),
    ...plan.nodes.add.filter((node) => node.controlPlane).map((node) => node.name),
  ]);
  const first = [...controlPlane].toSorted()[0];
  if (first === undefined || !plan.nodes.remove.includes(first)) {
    return { proof: `nodes are removed through ${first ?? 'no node'}, which stays` };
  }
  if (plan.controlPlane !== undefined) {
    return {
      proof: `${first} is the first control-plane node by name and leaves, which the platform's tool cannot do; nodes leave outside of apply, one at a time`,
    };
  }
  return {
    warnings: [
      `${first} is the first control-plane node by name and is to be removed: the platform removes nodes through it and will say 'ip of master node "${first}" not found'`,
    ],
    next: 'the removal will wait for a person: be ready to take old nodes out one at a time (drain, kubeadm reset, kubectl delete node)',
  };
}

async function checkRegistry(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  const { plan } = world;
  const leaving = config.registryHosts.filter((name) => plan.nodes.remove.includes(name));
  if (leaving.length > 0 && plan.containerRegistry === 'not-moved') {
    return {
      failures: [
        `cr.local.hosts names ${leaving.join(', ')}, which leave, and the plan does not say how images and charts move`,
      ],
      next: 'ferry plan --container-registry re-push (or copy-data)',
    };
  }
  const uncopied = leaving.filter(
    (name) => !plan.transfers.some(({ subject, source }) => subject.type === 'host-service' && source.host === name),
  );
  if (plan.containerRegistry === 'copy-data' && uncopied.length > 0) {
    return {
      failures: uncopied.map((name) => `no transfer copies the registry's data of ${name}`),
      next: 'ferry plan --container-registry copy-data',
    };
  }
  if (leaving.length > 0 && plan.containerRegistry === 're-push') {
    return {
      warnings: [
        `the registry moves from ${leaving.join(', ')}: the apply pushes the package's images only; images and charts of applications must be pushed again afterwards`,
      ],
      next: 'have the application packages at hand (proton-cli package push), or plan with --container-registry copy-data',
    };
  }
  return { proof: leaving.length === 0 ? 'stays where it is' : `${plan.containerRegistry} for ${leaving.join(', ')}` };
}

async function checkEceph(world: World): Promise<Finding> {
  const { config } = await world.cluster();
  const leaving = config.ecephHosts.filter((name) => world.plan.nodes.remove.includes(name));
  return {
    failures: leaving.map((name) => `eceph runs on ${name}, which leaves; its data does not move with this tool`),
    next: 'keep these nodes: take them out of nodes.remove of the plan',
    proof: config.ecephHosts.length === 0 ? 'not configured' : `stays on ${config.ecephHosts.join(', ')}`,
  };
}

async function checkComponentList(world: World): Promise<Finding> {
  const { components } = await world.cluster();
  const { plan } = world;
  const planned = new Set(plan.components.map((component) => component.kind));
  const failures = components.flatMap((component) => {
    if (planned.has(component.kind) || component.storageClassName !== undefined) return [];
    const left = component.replicas.filter((replica) => plan.nodes.remove.includes(replica.host));
    if (left.length === 0) return [];
    return [`${component.kind} has data on ${left.map(({ host }) => host).join(', ')}, but the plan does not move it`];
  });
  for (const kind of planned) {
    if (!components.some((component) => component.kind === kind))
      failures.push(`${kind} is planned but not configured`);
  }
  return {
    failures,
    next: 'ferry plan makes a plan of all components',
    proof: `${counted(planned.size, 'component')} on node-local directories`,
  };
}

/** Every edit of the migration is tried on the live documents, and held against the platform's rules; nothing is written. */
async function checkEdits(world: World): Promise<Finding> {
  const { document, records } = await world.cluster();
  const { plan } = world;
  let text = document;
  /** By cause: what one stage brings about, the ones after it have as well. */
  const refused = new Map<string, { stage: string; next: string }>();
  for (const stage of ['add-nodes', 'reinstall', 'remove-nodes'] as const) {
    text = editConfig(text, stage, plan, plan.components).text;
    for (const { cause, next } of refusals(text)) {
      if (!refused.has(cause)) refused.set(cause, { stage, next });
    }
  }
  editComponentsSecret(records, plan.components, 'forth');
  return {
    failures: [...refused].map(([cause, { stage }]) => `the platform would refuse the document of ${stage}: ${cause}`),
    next: `${[...refused.values()].map(({ next }) => next).join('; ')}; ferry diff PLAN shows every edit`,
    proof: 'every edit of both Secrets was tried on a copy',
  };
}

async function checkOperators(world: World): Promise<Finding> {
  const failures: string[] = [];
  const seen: string[] = [];
  for (const { kind } of world.plan.components) {
    const { workload } = componentTable[kind];
    if (workload.type === 'helm') continue;
    const { namespace, deployment } = workload.operator;
    const found = await world.api.find<Workload>(path('apps/v1', namespace, 'deployments', deployment));
    if (found === undefined) failures.push(`${kind}: its operator ${namespace}/${deployment} does not exist`);
    else if ((found.status?.readyReplicas ?? 0) < 1)
      failures.push(`${kind}: its operator ${namespace}/${deployment} is not ready`);
    else seen.push(kind);
    const resource = path(workload.apiVersion, world.plan.platform.resourceNamespace, workload.plural, workload.name);
    if ((await world.api.find(resource)) === undefined)
      failures.push(`${kind}: ${workload.kind} ${workload.name} does not exist`);
  }
  return {
    failures,
    next: 'without its operator a component can neither be removed (finalizers) nor come back: kubectl rollout status, kubectl logs',
    proof: seen.length === 0 ? 'no operator needed' : `ready for ${seen.join(', ')}`,
  };
}

async function checkApplications(world: World): Promise<Finding> {
  const { plan, api } = world;
  const failures: string[] = [];
  for (const name of plan.applications.namespaces) {
    if ((await api.find(path('v1', undefined, 'namespaces', name))) === undefined) {
      failures.push(`namespace ${name} does not exist`);
    }
  }
  const platform = new Set([
    plan.platform.configNamespace,
    plan.platform.resourceNamespace,
    ...componentRows.flatMap(({ workload }) => (workload.type === 'helm' ? [] : [workload.operator.namespace])),
  ]);
  // Bare pods, and what Jobs and ReplicaSets of nobody run, are seen as pods only.
  const found: KubernetesObject[] = (await api.list<Pod>(path('v1', undefined, 'pods'))).filter(mayWrite);
  for (const [group, plural] of [
    ['apps/v1', 'deployments'],
    ['apps/v1', 'statefulsets'],
    ['apps/v1', 'daemonsets'],
    ['batch/v1', 'cronjobs'],
  ] as const) {
    found.push(...(await api.list<KubernetesObject>(path(group, undefined, plural))));
  }
  const others = new Set<string>();
  for (const { metadata } of found) {
    const { namespace = '' } = metadata;
    if (/^kube-/.test(namespace) || platform.has(namespace) || plan.applications.namespaces.includes(namespace))
      continue;
    others.add(namespace);
  }
  return {
    failures,
    warnings: [...others].toSorted().map((name) => `workloads of namespace ${name} are not stopped by this plan`),
    next: 'if they write to the platform, name the namespace in applications.namespaces of the plan',
    proof: `stops ${plan.applications.namespaces.join(', ') || 'nothing'}`,
  };
}

/** Neither ended nor one that a machine keeps by itself, as it does those of the control plane. */
function mayWrite({ metadata, status }: Pod): boolean {
  const isStatic = metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
  return !isStatic && !['Succeeded', 'Failed'].includes(status?.phase ?? '');
}

/** What a component does not tell now is not compared after the move either: people should know before they rely on it. */
async function checkProbes(world: World): Promise<Finding> {
  const { answered, missing } = await tryProbes(world.api, world.plan.components);
  return {
    warnings: missing,
    next: 'the data of these is compared by files only; look at them by hand before remove-nodes and close-downtime are approved, or give the pods a probe of their own (annotation ferry.migration/probe: http:PORT/PATH)',
    proof: `${counted(answered, 'probe')} answered by components`,
  };
}

async function checkComponent(world: World, kind: ComponentKind): Promise<Finding> {
  const planned = world.plan.components.find((component) => component.kind === kind);
  const { components } = await world.cluster();
  const live = components.find((component) => component.kind === kind);
  if (planned === undefined || live === undefined) return { failures: ['it is not configured'], next: 'ferry plan' };
  const failures = [...compareComponent(planned, live), ...(await compareWorkloads(world, planned))];
  return {
    failures,
    next: `kubectl -n ${planned.namespace} get statefulset,pod,pvc -o wide; then ferry plan, if the platform was changed`,
    proof: planned.replicas.map((replica) => `${replica.from} → ${replica.to}`).join(', '),
  };
}

function compareComponent(planned: PlannedComponent, live: ComponentFact): string[] {
  const failures: string[] = [];
  if (live.storageClassName !== undefined) failures.push(`it uses the storage class ${live.storageClassName}`);
  const hosts = planned.replicas.toSorted((a, b) => a.ordinal - b.ordinal).map((replica) => replica.from);
  const configured = live.replicas.map((replica) => replica.host);
  if (configured.join() !== hosts.join()) {
    failures.push(`hosts are [${configured.join(', ')}], planned from [${hosts.join(', ')}]`);
  }
  if (live.dataPath !== undefined && live.dataPath !== planned.dataPath) {
    failures.push(`its directory is ${live.dataPath}, planned ${planned.dataPath}`);
  }
  if (componentTable[planned.kind].persist !== undefined) {
    if (live.recorded === undefined) failures.push('component-manage has no record of it');
    else if (live.recorded.hosts.join() !== configured.join()) {
      failures.push(
        `component-manage recorded hosts [${live.recorded.hosts.join(', ')}], not [${configured.join(', ')}]`,
      );
    } else if (live.recorded.dataPath !== undefined && live.recorded.dataPath !== planned.dataPath) {
      failures.push(`component-manage recorded the directory ${live.recorded.dataPath}`);
    }
  }
  for (const replica of planned.replicas) {
    const seen = live.replicas.find((entry) => entry.ordinal === replica.ordinal);
    if (seen === undefined) continue;
    const { node, volumeHost, volumePath, reclaimPolicy } = seen.live;
    if (volumeHost === undefined) failures.push(`volume ${replica.pv} does not exist or is bound to no host`);
    else if (volumeHost !== replica.from)
      failures.push(`volume ${replica.pv} is on ${volumeHost}, not ${replica.from}`);
    if (seen.pv !== replica.pv) failures.push(`claim ${replica.pvc} is bound to ${seen.pv}, not ${replica.pv}`);
    // Where an operator lays out the directory by itself, its volumes lie below it.
    const below =
      componentTable[planned.kind].runTime !== undefined && volumePath?.startsWith(`${planned.dataPath}/`) === true;
    if (volumePath !== undefined && volumePath !== planned.dataPath && !below) {
      failures.push(`volume ${replica.pv} is at ${volumePath}, not ${planned.dataPath}`);
    }
    if (reclaimPolicy !== undefined && reclaimPolicy !== 'Retain') {
      failures.push(`volume ${replica.pv} has reclaim policy ${reclaimPolicy}: deleting it would delete data`);
    }
    if (node === undefined) failures.push(`pod ${replica.pod} does not exist or is not scheduled`);
    else if (node !== replica.from) failures.push(`pod ${replica.pod} runs on ${node}, not ${replica.from}`);
  }
  return failures;
}

async function compareWorkloads(world: World, planned: PlannedComponent): Promise<string[]> {
  const failures: string[] = [];
  const runTime = componentTable[planned.kind].runTime !== undefined;
  for (const name of planned.statefulSets) {
    const found = await world.api.find<Workload>(path('apps/v1', planned.namespace, 'statefulsets', name));
    const wanted = found?.spec.replicas ?? 1;
    const ready = found?.status?.readyReplicas ?? 0;
    // An operator may run its pods with something else than the usual StatefulSet.
    if (found === undefined && !runTime) failures.push(`StatefulSet ${name} does not exist`);
    if (found !== undefined && ready < wanted)
      failures.push(`StatefulSet ${name} has ${ready} of ${wanted} pods ready`);
  }
  return failures;
}
