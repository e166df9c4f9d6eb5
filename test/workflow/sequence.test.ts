import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { abortSignal, phaseNames } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { approve, approveAll, startHarness, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
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
