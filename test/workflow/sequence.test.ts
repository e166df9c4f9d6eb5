import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { phaseNames } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { approveAll, startHarness } from './harness.ts';
import { planOf } from './plans.ts';
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
