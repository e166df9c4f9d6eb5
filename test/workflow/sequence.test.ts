import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PlanInput } from '../../src/plan/plan.ts';
import { abortSignal, phaseNames } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { approve, approveAll, startHarness, untilGate } from './harness.ts';
import { planOf, stackedPlanOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('time-skipping');
});
afterAll(() => harness.stop());

describe('a migration without trouble', () => {
  it('goes through every phase in order and leaves the components on the new nodes', async () => {
    const plan = planOf('smooth');
    const world = createWorld(plan);

    const handle = await harness.start(plan);
    await approveAll(handle);
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(status.phases.map((phase) => [phase.name, phase.state])).toEqual(phaseNames.map((name) => [name, 'done']));
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual({
      nodes: ['new1', 'new2'],
      configNodes: ['new1', 'new2'],
      secretHosts: { redis: 'to', kafka: 'to', zookeeper: 'to', mariadb: 'to' },
      installed: { redis: 'to', kafka: 'to', zookeeper: 'to', mariadb: 'to' },
      applications: 'running',
      services: { old1: 'up', old2: 'up', new1: 'up', new2: 'up' },
      breadcrumbs: false,
    });
    expect(status.transfers.map((transfer) => transfer.state)).toEqual(plan.transfers.map(() => 'verified'));
  });
});

it('what the components hold is compared before people are asked to give up the way back', async () => {
  const world = createWorld(planOf('compared-early'));

  const handle = await harness.start(world.plan);
  await approve(handle, 'open-downtime');
  const status = await untilGate(handle, 'remove-nodes');
  await handle.terminate();

  expect(status.phases.find(({ name }) => name === 'remove-nodes')).toMatchObject({
    state: 'parked',
    detail: expect.stringMatching(/\d+ probes answered, all as before$/) as string,
  });
  expect(world.inputs.filter(({ name }) => name === 'takeProbes').map(({ input }) => input)).toMatchObject([
    { side: 'from' },
    { side: 'to' },
  ]);
});

it('an application that was ill before may end as ill as it was', async () => {
  const world = createWorld(planOf('ill-before'));
  world.readyBefore = 1;

  const handle = await harness.start(world.plan);
  await approveAll(handle);
  const { outcome, status } = await handle.result();

  expect(outcome).toBe('migrated');
  expect(status.phases.find(({ name }) => name === 'verify')?.detail).toContain(
    'not ready, but nor were they before the migration: pod anyshare/web-1 (Running, CrashLoopBackOff)',
  );
});

it('applications that run while old nodes leave are looked at once more when they have left', async () => {
  const gates = { ...planOf('template').gates, removeNodesAfter: 'start-apps' as const };
  const world = createWorld(planOf('late', { gates }));
  const handle = await harness.start(world.plan);
  await approveAll(handle, ['open-downtime', 'close-downtime', 'remove-nodes']);
  const { outcome, status } = await handle.result();

  const last = world.inputs.map(({ name, input }) => ({ name, input })).slice(callsUntil(world, 'remove-nodes'));
  expect(outcome).toBe('migrated');
  expect(last).toContainEqual({
    name: 'awaitClusterHealthy',
    input: expect.objectContaining({ namespaces: expect.arrayContaining(['anyshare']) as string[] }) as unknown,
  });
  expect(last.map(({ name }) => name)).toContain('takeProbes');
  // At rest, for gate close-downtime, for verify, and now: not at the gate of the removal, since values move on while applications write.
  expect(world.calls.filter((name) => name === 'takeProbes')).toHaveLength(4);
  expect(status.phases.find(({ name }) => name === 'remove-nodes')?.detail).toMatch(/; \d+ probes answered/);
});

function callsUntil(world: World, stage: string): number {
  return world.inputs.findLastIndex(
    ({ name, input }) => name === 'applyConfig' && (input as { stage: string }).stage === stage,
  );
}

/** Calls about single nodes, in order, with applies of the tool among them. */
function callsOf(world: World): string[] {
  return world.inputs.flatMap(({ name, input }) => {
    if (name === 'resetNode') return [`${name} ${(input as { host: { name: string } }).host.name}`];
    if (name === 'deleteNode') return [`${name} ${(input as { node: string }).node}`];
    return name === 'applyConfig' ? [`${name} ${(input as { stage: string }).stage}`] : [];
  });
}

describe("machines whose Nodes the platform's tool deletes", () => {
  it('are no nodes any more, however often they start; of one that is off it warns', async () => {
    const world = createWorld(planOf('retired'));
    world.silent.add('old2');

    const handle = await harness.start(world.plan);
    await approveAll(handle);
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(callsOf(world).slice(-4)).toEqual([
      'applyConfig remove-nodes',
      'resetNode old1',
      'deleteNode old1',
      'resetNode old2',
    ]);
    const detail = status.phases.find(({ name }) => name === 'remove-nodes')?.detail;
    expect(detail).toContain(
      'old2 did not answer, and becomes a node again when it starts: then systemctl disable --now kubelet on it, and kubectl delete node old2',
    );
    expect(detail).not.toContain('old1 did not answer');
  });

  it('are none after an abort either, and can join at another try', async () => {
    const world = createWorld(planOf('retired-new'));
    const initial = world.snapshot();
    world.workers.add('new1').add('new2');

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    await handle.signal(abortSignal, { by: 'li', reason: 'not tonight' });
    const { outcome } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(initial);
    expect(callsOf(world).slice(-5)).toEqual([
      'applyConfig remove-new-nodes',
      'resetNode new2',
      'deleteNode new2',
      'resetNode new1',
      'deleteNode new1',
    ]);
  });
});

describe('the first of the masters that are left', () => {
  const add = ['new2', 'new3', 'new1'].map((name) => ({ name, ip4: `10.0.0.2${name.slice(-1)}`, controlPlane: true }));
  const inOrder = add.toSorted((one, other) => (one.name < other.name ? -1 : 1));
  const { platform, transfers } = planOf('any');
  const [all, only] = [['old1', 'old2', 'old3'], ['old1']];

  it.each<[string, PlanInput['nodes'], Partial<PlanInput>, string, string]>([
    ['another one than the new control host', { add: inOrder, remove: only }, {}, 'new1', 'old2'],
    ['one that joined before the new control host', { add, remove: all }, {}, 'new1', 'new2'],
    [
      'the control host that stays, in the place of another one',
      { add: inOrder, remove: only },
      { platform: { ...platform, controlHost: 'old2' }, transfers },
      'old2',
      'old2',
    ],
  ])('has what nodes join with: %s', async (what, nodes, change, control, first) => {
    const world = createWorld(
      stackedPlanOf(`join-${what.replaceAll(/\W/g, '')}`.slice(0, 40).toLowerCase(), { nodes, ...change }),
    );

    const handle = await harness.start(world.plan);
    await approveAll(handle);
    const { outcome } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    const given = world.inputs.flatMap(({ name, input }) =>
      name === 'giveJoinFile' ? [input as { control: { name: string }; to: { name: string } }] : [],
    );
    expect(given.map((input) => [input.control.name, input.to.name])).toEqual([[control, first]]);
    expect(world.masters?.joinFiles.has(first)).toBe(true);
    expect(world.calls.lastIndexOf('giveJoinFile')).toBeGreaterThan(world.calls.lastIndexOf('deleteNode'));
  });
});
