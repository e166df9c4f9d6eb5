import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Plan } from '../../src/plan/plan.ts';
import { abortSignal, resumeSignal } from '../../src/workflows/messages.ts';
import type { Handle, Harness } from './harness.ts';
import { approve, startHarness, untilBlocked } from './harness.ts';
import { planOf, stackedPlanOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

type Activity = 'startHostServices' | 'provePlacement';

/** A migration in its window that is blocked at the first call of this activity. */
async function blockedAt(activity: Activity, plan: Plan): Promise<{ world: World; handle: Handle }> {
  const world = createWorld(plan);
  world.fail(activity, 'NeedsHuman', { cause: `${activity} fails`, untouched: 'everything', next: 'look' });
  const handle = await harness.start(plan);
  await approve(handle, 'open-downtime');
  await untilBlocked(handle);
  return { world, handle };
}

function detailOf(status: { phases: { name: string; detail?: string }[] }, phase: string): string | undefined {
  return status.phases.find(({ name }) => name === phase)?.detail;
}

/** Data directories move on an old and on a new machine. */
const hostServices = { hosts: ['old2', 'new1'], units: ['proton-cr'] };

describe.concurrent('going back without a new machine that is lost', () => {
  it('takes it out before what stood on it', async () => {
    const { world, handle } = await blockedAt('provePlacement', planOf('lost-installed', { hostServices }));
    world.lost.add('new1');
    await handle.signal(abortSignal, { by: 'li', reason: 'new1 is dead' });
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(createWorld(world.plan).snapshot());
    expect(detailOf(status, 'stop-host-services')).toContain('not started on new1, lost');
    expect(detailOf(status, 'add-nodes')).toContain('new1 did not answer');
  });

  it('starts the services of the others first', async () => {
    const { world, handle } = await blockedAt('startHostServices', planOf('lost-stopped', { hostServices }));
    const services = world.snapshot().services;
    world.lost.add('new1');
    await handle.signal(abortSignal, { by: 'li', reason: 'new1 is dead' });
    const { outcome } = await handle.result();
    const initial = createWorld(world.plan).snapshot();

    expect(services).toMatchObject({ old2: 'down', new1: 'down' });
    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual({ ...initial, services: { ...initial.services, new1: 'down' } });
    expect(world.calls.lastIndexOf('startHostServices')).toBeLessThan(world.calls.indexOf('deleteNode'));
  });

  it('lets its member leave etcd like any other dead one', async () => {
    const { world, handle } = await blockedAt('provePlacement', stackedPlanOf('lost-master'));
    world.masters?.dead.add('new1');
    await handle.signal(abortSignal, { by: 'li', reason: 'new1 is dead' });
    const { outcome } = await handle.result();
    const left = world.inputs
      .filter(({ name }) => name === 'leaveEtcd')
      .map(({ input }) => (input as { master: { name: string } }).master.name);

    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(left).toEqual(['new1', 'new3', 'new2']);
    expect(world.snapshot()).toEqual(createWorld(world.plan).snapshot());
  });

  it('also when it is lost on the way', async () => {
    const { world, handle } = await blockedAt('provePlacement', planOf('lost-later'));
    const hold = world.hold('editSecrets');
    await handle.signal(abortSignal, { by: 'li', reason: 'redis is slow' });
    await hold.reached;
    world.lost.add('new2');
    hold.release();
    const { blocked } = await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'uninstall', cause: expect.stringContaining('new2') as string });
    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(createWorld(world.plan).snapshot());
  });

  it('asks people where only ssh fails, and leaves nothing out once it answers', async () => {
    const { world, handle } = await blockedAt('startHostServices', planOf('lost-mute', { hostServices }));
    world.mute.add('new1');
    await handle.signal(abortSignal, { by: 'li', reason: 'new1 is slow' });
    const { blocked } = await untilBlocked(handle);
    const nodes = world.snapshot().nodes;
    world.mute.clear();
    await handle.signal(resumeSignal, { by: 'li' });
    const { outcome } = await handle.result();

    expect(blocked?.cause).toContain('new1 did not answer ssh');
    expect(nodes).toContain('new1');
    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(createWorld(world.plan).snapshot());
  });

  it('waits for an old machine: its data is needed', async () => {
    const { world, handle } = await blockedAt('startHostServices', planOf('lost-old', { hostServices }));
    world.lost.add('old2');
    await handle.signal(abortSignal, { by: 'li', reason: 'old2 is dead' });
    const { blocked } = await untilBlocked(handle);
    world.lost.delete('old2');
    await handle.signal(resumeSignal, { by: 'li' });
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'stop-host-services', cause: 'old2 does not answer' });
    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
  });
});
