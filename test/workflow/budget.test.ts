import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Harness } from './harness.ts';
import { approve, approveAll, startHarness, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

// A server of its own: an abort in the middle of a round keeps the time of a shared one from being skipped.
let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('time-skipping');
});
afterAll(() => harness.stop());

describe('the downtime', () => {
  it('tells people when it passes its budget, and goes on', async () => {
    const plan = planOf('budget', { downtime: { budgetSeconds: 600, expectedSeconds: {} } });
    const world = createWorld(plan);

    const handle = await harness.start(plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    const before = world.notified.includes('budget-exceeded');
    await harness.environment.sleep('20 minutes');
    await expect.poll(() => world.notified.filter((event) => event === 'budget-exceeded').length).toBe(1);
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome, status } = await handle.result();

    expect(before).toBe(false);
    expect(outcome).toBe('migrated');
    expect(status.downtime.spentSeconds).toBeGreaterThanOrEqual(1200);
    expect(status.downtime.endedAt).toBeDefined();
    expect(world.notified.filter((event) => event === 'budget-exceeded').length).toBe(1);
  });
});
