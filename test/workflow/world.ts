import { activityInfo, ApplicationFailure, Context } from '@temporalio/activity';
import type {
  ApplyInput,
  ConfigStage,
  Evidence,
  FailureDetail,
  FailureType,
  Holder,
  MigrationActivities,
  Probe,
  VolumeRecord,
} from '../../src/activities/contract.ts';
import { toolCanRemove } from '../../src/workflows/departure.ts';
import type { ComponentKind, Plan } from '../../src/plan/plan.ts';
import { packageService } from '../../src/plan/quorum.ts';
import type { ReplicateRequest } from '../../src/plan/replicate.ts';
import type { CopyOutcome } from '../../src/workflows/copy-outcome.ts';
import { masterActivities, Masters } from './masters-in-a-model.ts';

export interface ModelCopyActivities {
  copyOnce(request: ReplicateRequest): Promise<CopyOutcome>;
  noteTune(transfer: string, limitKiBps: number): Promise<void>;
}

type Name = keyof MigrationActivities | 'copyOnce';
type Side = 'from' | 'to';

/** What a cluster looks like from outside; an abort must bring all of it back. */
export interface Snapshot {
  nodes: string[];
  configNodes: string[];
  secretHosts: Record<string, Side>;
  installed: Record<string, Side | 'gone' | 'half'>;
  applications: 'running' | 'stopped';
  services: Record<string, 'up' | 'down'>;
  breadcrumbs: boolean;
  /** Of etcd, where masters are its members. */
  members?: string[];
}

interface Hold {
  /** Ends when it is released and not before, cancelled or not: most activities do not listen. */
  deaf: boolean;
  /** Calls that pass before this one is held. */
  passes: number;
  when: 'before' | 'after';
  reached: () => void;
  released: Promise<void>;
}

/**
 * A small model of a platform with its hard rules. Activities act on it, so that order, idempotence and undo are judged by their effect;
 * whatever the real platform would punish with lost data or a broken cluster is written into `violations`.
 */
export class World {
  readonly plan: Plan;
  readonly calls: string[] = [];
  readonly inputs: { name: Name; input: unknown }[] = [];
  readonly violations: string[] = [];
  readonly notified: string[] = [];
  readonly tunes: { transfer: string; limitKiBps: number }[] = [];
  readonly limits: { transfer: string; limitKiBps: number; mode: string }[] = [];
  /** Transfers whose every pass moves everything, and the seconds that it takes. */
  readonly whole = new Map<string, number>();
  readonly probesToBreak = new Set<string>();
  /** Components that answer no probe on the new nodes. */
  readonly probesToSilence = new Set<string>();
  /** Components that answer no probe, nor did they when the plan was checked. */
  readonly probesUntaken = new Set<string>();
  /** Checks of the plan that fail now. */
  readonly checksFailing = new Set<string>();
  copiesNow = 0;
  mostCopies = 0;
  /** How often it was made sure that no apply runs. */
  settled = 0;
  /** Bytes written at the sources since each last pass; a round that moves none is quiet. */
  dirtyBytes = 1000;
  passSeconds = 1;
  /** Size of every tree, unless more of it gets dirty. */
  treeBytes = 1_000_000;
  state: Snapshot;
  /** Version of the data per transfer: at the source and as copied. */
  readonly source = new Map<string, number>();
  readonly copied = new Map<string, number>();
  private readonly failures = new Map<Name, (() => Error)[]>();
  private readonly holds = new Map<Name, Hold[]>();
  readonly seconds = new Map<Name, number>();
  /** Only where the control plane is on the nodes. */
  readonly masters: Masters | undefined;
  /** The migration that holds the cluster. */
  holder: Holder | undefined;
  /** Machines whose kubelet is disabled for good. */
  readonly leftNodes = new Set<string>();
  /** Machines that are switched off, and nodes without a part of the control plane. */
  readonly silent = new Set<string>();
  /** Machines that do nothing any more, masters that are dead apart; and those that run and that ssh does not reach. */
  readonly lost = new Set<string>();
  readonly mute = new Set<string>();
  readonly workers = new Set<string>();
  /** Machines that reboot and whose services were not started yet, and the most there were of them. */
  readonly booting = new Set<string>();
  mostBooting = 0;
  /** Pods of the application that are sound, before and after. */
  readyBefore: number | 'all' = 'all';

  constructor(plan: Plan) {
    this.plan = plan;
    const old = plan.mapping.map((pair) => pair.from);
    this.state = {
      nodes: [...old],
      configNodes: [...old],
      secretHosts: Object.fromEntries(plan.components.map((component) => [component.kind, 'from'])),
      installed: Object.fromEntries(plan.components.map((component) => [component.kind, 'from'])),
      applications: 'running',
      services: Object.fromEntries(plan.hosts.map((host) => [host.name, 'up'])),
      breadcrumbs: false,
    };
    this.masters = plan.controlPlane && new Masters(this, plan.controlPlane.masters, plan.platform.controlHost);
    for (const transfer of plan.transfers) {
      this.source.set(transfer.id, 1);
    }
  }

  snapshot(): Snapshot {
    const members = this.masters?.members.toSorted();
    return structuredClone({
      ...this.state,
      nodes: this.state.nodes.toSorted(),
      ...(members === undefined ? {} : { members }),
    });
  }

  /** The next calls of an activity fail with this, and with what lay below it, as it does where a machine or the API said no. */
  fail(name: Name, type: FailureType, detail: FailureDetail, times = 1): void {
    const cause = new Error('All configured authentication methods failed', { cause: new Error('read ECONNRESET') });
    const make = (): Error =>
      ApplicationFailure.create({ message: detail.cause, type, nonRetryable: false, details: [detail], cause });
    this.failures.set(name, [...(this.failures.get(name) ?? []), ...Array.from({ length: times }, () => make)]);
  }

  /** The next call of an activity stands still, before or after its effect, until released or cancelled. */
  hold(
    name: Name,
    when: 'before' | 'after' = 'before',
    passes = 0,
    deaf = false,
  ): { reached: Promise<void>; release: () => void } {
    const reached = Promise.withResolvers<undefined>();
    const released = Promise.withResolvers<undefined>();
    const hold: Hold = { deaf, passes, when, reached: () => reached.resolve(undefined), released: released.promise };
    this.holds.set(name, [...(this.holds.get(name) ?? []), hold]);
    return { reached: reached.promise, release: () => released.resolve(undefined) };
  }

  async act<T>(name: Name, input: unknown, effect: () => T): Promise<T> {
    this.calls.push(name);
    this.inputs.push({ name, input });
    const failure = this.failures.get(name)?.shift();
    if (failure !== undefined) {
      throw failure();
    }
    const hold = this.takeHold(name);
    if (hold?.when === 'before') {
      await stand(hold);
    }
    const result = effect();
    if (hold?.when === 'after') {
      await stand(hold);
    }
    return result;
  }

  private takeHold(name: Name): Hold | undefined {
    const next = this.holds.get(name)?.[0];
    if (next === undefined) {
      return undefined;
    }
    next.passes -= 1;
    return next.passes < 0 ? this.holds.get(name)?.shift() : undefined;
  }

  violate(what: string): void {
    this.violations.push(what);
  }

  isOff(name: string): boolean {
    return this.lost.has(name) || this.masters?.dead.has(name) === true;
  }

  isWriting(kind: ComponentKind): boolean {
    return this.state.installed[kind] === 'from' || this.state.installed[kind] === 'half';
  }
}

/** Waits until released; heartbeats, so that a cancellation of the workflow arrives. */
async function stand(hold: Hold): Promise<void> {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat(), 50);
  hold.reached();
  try {
    await (hold.deaf ? hold.released : Promise.race([hold.released, context.cancelled]));
  } finally {
    clearInterval(beat);
  }
}

const worlds = new Map<string, World>();

/** A world of its own for a plan; activities find it by the workflow that runs them. */
export function createWorld(plan: Plan): World {
  const world = new World(plan);
  worlds.set(plan.cluster, world);
  return world;
}

function here(): World {
  const { workflowId } = activityInfo().workflowExecution ?? { workflowId: '' };
  const cluster = /^migrate-(?<cluster>[^/]+)/.exec(workflowId)?.groups?.['cluster'] ?? '';
  const world = worlds.get(cluster);
  if (world === undefined) {
    throw ApplicationFailure.nonRetryable(`no world for ${workflowId}`);
  }
  return world;
}

function evidence(changed: boolean, proof: string): Evidence {
  return { changed, proof };
}

function needsHuman(cause: string, next: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(cause, 'NeedsHuman', { cause, untouched: 'everything', next });
}

function permanent(cause: string): ApplicationFailure {
  return ApplicationFailure.create({
    message: cause,
    type: 'Permanent',
    details: [{ cause, untouched: 'everything', next: 'abort' }],
  });
}

function nodesAfter(world: World, stage: ConfigStage, { nodes, lost = [] }: ApplyInput['plan']): string[] {
  const added = nodes.add.map((node) => node.name);
  switch (stage) {
    case 'add-nodes':
      return [...new Set([...world.state.configNodes, ...added])];
    case 'reinstall':
      return [...world.state.configNodes];
    case 'reinstall-back':
      return world.state.configNodes.filter((name) => !lost.includes(name));
    case 'remove-nodes':
      return world.state.configNodes.filter((name) => !nodes.remove.includes(name));
    case 'remove-new-nodes':
      return world.state.configNodes.filter((name) => !added.includes(name));
  }
}

function install(world: World, side: Side): void {
  const other = side === 'to' ? 'from' : 'to';
  for (const { kind } of world.plan.components) {
    if (world.state.secretHosts[kind] !== side) {
      throw permanent(`${kind}: hosts can not be changed`);
    }
    const now = world.state.installed[kind];
    if (now === other || now === 'half') {
      throw permanent(`${kind}: still installed (${now})`);
    }
    world.state.installed[kind] = side;
  }
  if (side === 'to') {
    for (const { id } of world.plan.transfers) {
      if (world.copied.get(id) !== world.source.get(id)) {
        world.violate(`${id} was installed over version ${world.copied.get(id) ?? 0} of ${world.source.get(id) ?? 0}`);
      }
    }
  }
}

function applyStage(world: World, { stage, control, plan: reference }: ApplyInput): Evidence {
  const { state, plan, masters } = world;
  const listed = nodesAfter(world, stage, reference);
  const down = plan.hosts
    .map(({ name }) => name)
    .filter((name) => state.services[name] === 'down' && !world.isOff(name));
  if (down.length > 0) {
    world.violate(`apply ${stage} while services are down on ${down.join(', ')}`);
  }
  const off = listed.filter((name) => world.isOff(name));
  if (off.length > 0) throw needsHuman(`apply module firewall fail: ${off.join()} does not answer`, 'look');
  const removed = state.configNodes.filter((name) => !listed.includes(name));
  const deleted = state.nodes.filter((name) => !listed.includes(name));
  if (
    !toolCanRemove(
      deleted,
      state.nodes.map((name) => ({ name, controlPlane: !world.workers.has(name) })),
    )
  ) {
    throw permanent('ip of master node not found');
  }
  for (const { kind, replicas } of plan.components) {
    const side = state.installed[kind];
    if ((side === 'from' || side === 'to') && replicas.some((replica) => removed.includes(replica[side]))) {
      world.violate(`${stage} removes nodes under ${kind}`);
    }
  }
  const before = JSON.stringify(state);
  if (stage === 'reinstall' || stage === 'reinstall-back') {
    install(world, stage === 'reinstall' ? 'to' : 'from');
  }
  if (masters !== undefined) {
    if (!masters.control.has(control.name))
      world.violate(`apply ${stage} on ${control.name}, which lacks what it needs`);
    for (const name of deleted) world.violate(`${stage} deletes the Node of the master ${name}`);
    const joining = reference.nodes.add.filter((node) => node.controlPlane && !state.nodes.includes(node.name));
    if (stage === 'add-nodes' && joining.length > 1) world.violate('more than one master joins in one apply');
    if (stage === 'add-nodes') for (const { name } of joining) masters.join(name);
    masters.balancers = [...masters.members];
  }
  state.configNodes = listed;
  state.nodes = [...state.configNodes];
  return evidence(before !== JSON.stringify(state), `applied ${stage}`);
}

const activities: MigrationActivities & ModelCopyActivities = {
  ...masterActivities(here),
  holdCluster: (input) =>
    here().act('holdCluster', input, () => {
      const holder = here().holder;
      if (holder !== undefined && holder.firstRunId !== input.holder.firstRunId) {
        throw needsHuman(`workflow ${holder.workflowId} is at work`, `ferry status ${holder.workflowId}`);
      }
      here().holder = input.holder;
      return evidence(holder === undefined, `held by ${input.holder.workflowId}`);
    }),
  letClusterGo: (input) =>
    here().act('letClusterGo', input, () => {
      const isOwn = here().holder?.firstRunId === input.holder.firstRunId;
      if (isOwn) here().holder = undefined;
      return evidence(isOwn, 'held by nobody');
    }),
  preflight: (input) =>
    here().act('preflight', input, () => [
      { name: 'world', state: 'ok' as const },
      ...[...here().checksFailing].map((name) => ({
        ...{ name, state: 'failed' as const, cause: 'not as it was', next: `mend ${name}` },
      })),
      here().probesUntaken.size === 0
        ? { name: 'probes', state: 'ok' as const }
        : {
            name: 'probes',
            state: 'warning' as const,
            cause: [...here().probesUntaken].map((kind) => `${kind} does not answer`).join('; '),
          },
    ]),
  listImages: (input) => here().act('listImages', input, () => [{ image: 'app:1', host: 'old1' }]),
  prewarmHost: (input) =>
    here().act('prewarmHost', input, () => ({ ...evidence(true, 'loaded'), loaded: 1, present: 0 })),
  backupSecrets: (input) =>
    here().act('backupSecrets', input, () => ({
      ...evidence(true, 'saved'),
      files: [{ name: 'proton-cli-config', digest: 'sha256:1' }],
    })),
  recordApplications: (input) =>
    here().act('recordApplications', input, () => {
      if (here().state.applications !== 'running') {
        here().violate('applications recorded after they were stopped');
      }
      return {
        takenAt: '2026-01-01T00:00:00Z',
        workloads: [
          { kind: 'Deployment' as const, namespace: 'anyshare', name: 'web', replicas: 3, ready: here().readyBefore },
        ],
      };
    }),
  stopApplications: (input) =>
    here().act('stopApplications', input, () => {
      const { state } = here();
      const changed = state.applications === 'running';
      state.applications = 'stopped';
      state.breadcrumbs = true;
      return evidence(changed, '0 pods run');
    }),
  startApplications: (input) =>
    here().act('startApplications', input, () => {
      const { state, violate } = bound(here());
      if (Object.values(state.installed).some((side) => side === 'gone' || side === 'half')) {
        violate('applications started without their components');
      }
      const changed = state.applications === 'stopped';
      state.applications = 'running';
      return evidence(changed, 'all ready');
    }),
  recordVolumes: (input) =>
    here().act('recordVolumes', input, () =>
      input.components.map((component): VolumeRecord => ({
        component: component.kind,
        namespace: component.namespace,
        persistentVolumes: component.replicas.map((replica) => replica.pv),
        claims: component.replicas.map((replica) => replica.pvc),
        statefulSets: component.statefulSets,
      })),
    ),
  uninstallComponent: (input) => {
    const world = here();
    const { kind } = input.component;
    if (world.state.applications === 'running') {
      world.violate(`${kind} uninstalled under running applications`);
    }
    if (kind === 'zookeeper' && world.plan.components.some((component) => component.kind === 'kafka')) {
      if (world.state.installed['kafka'] === 'from') {
        world.violate('zookeeper uninstalled under kafka');
      }
    }
    return world.act('uninstallComponent', input, () => {
      const side = world.state.installed[kind];
      const stuck = input.component.replicas
        .map((replica) => (side === 'from' || side === 'to' ? replica[side] : ''))
        .filter((name) => world.isOff(name) && world.state.nodes.includes(name));
      if (stuck.length > 0) throw needsHuman(`pods of ${kind} on ${stuck.join()} do not end`, 'look');
      const changed = world.state.installed[kind] !== 'gone';
      world.state.installed[kind] = 'gone';
      return evidence(changed, `${kind} is gone`);
    });
  },
  awaitClusterHealthy: (input) =>
    here().act('awaitClusterHealthy', input, () => {
      const { state } = here();
      const isExact = input.nodes.toSorted().join() === state.nodes.toSorted().join();
      const isUp = state.nodes.every((name) => state.services[name] === 'up' && !here().isOff(name));
      if (!isExact || !isUp) {
        throw permanent(`nodes are ${state.nodes.join()}, expected ${input.nodes.join()}; all up: ${isUp}`);
      }
      const asks = state.applications === 'running' && input.namespaces.includes('anyshare');
      const isIll = asks && here().readyBefore !== 'all';
      if (isIll && input.illBefore?.some(({ name }) => name === 'web') !== true) {
        throw permanent('pod anyshare/web-1 (Running, CrashLoopBackOff)');
      }
      return {
        ...evidence(false, `${state.nodes.length} nodes ready`),
        ...(isIll ? { stillIll: ['pod anyshare/web-1 (Running, CrashLoopBackOff)'] } : {}),
      };
    }),
  provePlacement: (input) =>
    here().act('provePlacement', input, () => {
      const { state } = here();
      const wrong = input.components.filter((component) => state.installed[component.kind] !== input.side);
      if (wrong.length > 0) {
        throw permanent(`not in place: ${wrong.map((component) => component.kind).join()}`);
      }
      return { proof: `${input.components.length} components in place`, rows: [] };
    }),
  repairMariadbMaster: (input) => here().act('repairMariadbMaster', input, () => evidence(false, 'has an endpoint')),
  listNodes: () =>
    here().act('listNodes', undefined, () =>
      here().state.nodes.map((name) => ({ name, ready: !here().isOff(name), controlPlane: !here().workers.has(name) })),
    ),
  clearBreadcrumbs: (input) =>
    here().act('clearBreadcrumbs', input, () => {
      here().state.breadcrumbs = false;
      return evidence(true, 'no marks left');
    }),
  editSecrets: (input) =>
    here().act('editSecrets', input, () => {
      const { state, plan } = here();
      const missing = plan.nodes.add.filter((node) => !state.configNodes.includes(node.name));
      if (input.direction === 'forth' && missing.length > 0) {
        throw permanent('the configuration does not name the new nodes');
      }
      const side = input.direction === 'forth' ? 'to' : 'from';
      const changed = Object.values(state.secretHosts).some((current) => current !== side);
      for (const { kind } of plan.components) {
        state.secretHosts[kind] = side;
      }
      return { ...evidence(changed, `hosts are ${side}`), diff: '', digests: {} };
    }),
  prepareConfig: (input) =>
    here().act('prepareConfig', input, () => ({
      stage: input.stage,
      digest: `sha256:${input.stage}`,
      diff: '',
      nodes: nodesAfter(here(), input.stage, input.plan),
    })),
  applyConfig: (input) =>
    here().act('applyConfig', input, () => {
      if (input.digest !== `sha256:${input.stage}`) {
        here().violate(`apply ${input.stage} with ${input.digest}`);
      }
      return { ...applyStage(here(), input), seconds: 1, attempt: activityInfo().attempt };
    }),
  checkApply: (input) => here().act('checkApply', input, () => evidence(false, 'an apply may start')),
  settleApply: (input) =>
    here().act('settleApply', input, () => {
      here().settled += 1;
      const { masters } = here();
      if (masters !== undefined) masters.joining = undefined;
      return evidence(false, 'no apply runs');
    }),
  dropPrepared: (input) => here().act('dropPrepared', input, () => evidence(true, 'no document left')),
  stopHostServices: (input) =>
    here().act('stopHostServices', input, () => {
      const { state, violate } = bound(here());
      if (Object.values(state.installed).includes('from')) {
        violate('host services stopped under components');
      }
      state.services[input.host.name] = 'down';
      return { ...evidence(true, 'stopped'), stopped: input.units };
    }),
  startHostServices: (input) =>
    here().act('startHostServices', input, () => {
      if (here().isOff(input.host.name)) throw needsHuman(`${input.host.name} does not answer`, 'switch it on');
      here().state.services[input.host.name] = 'up';
      here().booting.delete(input.host.name);
      return evidence(true, 'started');
    }),
  readBootId: (input) =>
    here().act('readBootId', input, () => {
      const { name } = input.host;
      // One try of it stands for all.
      if (here().isOff(name) || here().mute.has(name)) {
        throw ApplicationFailure.nonRetryable(`${name} does not answer`, 'Transient');
      }
      return `boot-of-${name}`;
    }),
  rebootHost: (input) =>
    here().act('rebootHost', input, () => {
      here().masters?.reboot(input.host.name);
      here().booting.add(input.host.name);
      here().mostBooting = Math.max(here().mostBooting, here().booting.size);
      here().state.services[input.host.name] = 'up';
      return evidence(true, 'another boot id');
    }),
  takeProbes: (input) =>
    here().act('takeProbes', input, () =>
      input.components.flatMap((component) =>
        component.replicas.map((replica): Probe => ({
          component: component.kind,
          ordinal: replica.ordinal,
          name: 'keys',
          ...(here().probesUntaken.has(component.kind) ||
          (here().probesToSilence.has(component.kind) && input.side === 'to')
            ? { value: '', untaken: 'HTTP 404' }
            : { value: here().probesToBreak.has(component.kind) && input.side === 'to' ? '0' : '42' }),
        })),
      ),
    ),
  notify: (input) =>
    here().act('notify', input, () => {
      here().notified.push(input.event);
      return { delivered: input.targets, failed: [] };
    }),
  copyOnce: async (request) => {
    const world = here();
    world.copiesNow += 1;
    world.mostCopies = Math.max(world.mostCopies, world.copiesNow);
    world.limits.push({ transfer: request.transfer.id, limitKiBps: request.limitKiBps ?? 0, mode: request.mode });
    try {
      return await world.act('copyOnce', request, () => copy(world, request));
    } finally {
      world.copiesNow -= 1;
    }
  },
  noteTune: (transfer, limitKiBps) => {
    here().tunes.push({ transfer, limitKiBps });
    return Promise.resolve();
  },
};

function bound(world: World): { state: Snapshot; violate: (what: string) => void } {
  return { state: world.state, violate: (what) => world.violate(what) };
}

function copy(world: World, request: ReplicateRequest): CopyOutcome {
  const { transfer, mode } = request;
  const { subject } = transfer;
  if (mode === 'final' && subject.type === 'component' && world.isWriting(subject.component)) {
    world.violate(`last delta of ${transfer.id} while its component still writes`);
  }
  const writes = subject.type === 'host-service' && subject.service !== packageService;
  if (mode === 'final' && writes && world.state.services[transfer.source.host] === 'up') {
    world.violate(`last delta of ${transfer.id} while its services run`);
  }
  world.copied.set(transfer.id, world.source.get(transfer.id) ?? 0);
  if (world.state.applications === 'running') {
    // Applications go on writing: the copy is stale at once.
    world.source.set(transfer.id, (world.source.get(transfer.id) ?? 0) + 1);
  }
  const whole = world.whole.get(transfer.id);
  return {
    ...(whole !== undefined && { isWhole: true as const }),
    passes: [
      {
        pass: 1,
        mode,
        // The server's clock, which may run ahead.
        startedAt: new Date(Context.current().info.currentAttemptScheduledTimestampMs).toISOString(),
        seconds: whole ?? world.passSeconds,
        files: 10,
        filesTransferred: 1,
        deleted: 0,
        totalBytes: Math.max(world.treeBytes, world.dirtyBytes),
        literalBytes: mode === 'live' ? world.dirtyBytes : 10,
        matchedBytes: 0,
        bytesPerSecond: 1_000_000,
        vanished: false,
      },
    ],
    ...(mode === 'final' ? { digest: `sha256:${transfer.id}` } : {}),
  };
}

export { activities };
