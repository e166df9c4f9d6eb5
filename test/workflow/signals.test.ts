import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pauseSignal, resumeSignal } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { approveAll, startHarness, until } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

describe.concurrent('a signal that arrives while a step is under way', () => {
  let harness: Harness;

  beforeAll(async () => {
    harness = await startHarness('development');
  });
  afterAll(async () => {
    await harness.stop();
  });

  // What these answer is kept in the state, and the signal changes the state before they do.
  it.each([
    'recordApplications',
    'takeProbes',
    'recordVolumes',
    'readBootId',
    'listNodes',
    'stopHostServices',
  ] as const)('does not lose what %s answers', async (name) => {
    const cluster = `signal-${name.toLowerCase()}`;
    const world = createWorld(planOf(cluster, { hostServices: { hosts: ['old2'], restart: 'reboot' } }));
    const held = world.hold(name);

    const handle = await harness.start(world.plan);
    const approving = approveAll(handle);
    await held.reached;
    await handle.signal(pauseSignal, { by: 'li', reason: 'a look around' });
    await until(handle, 'the pause', (status) => status.state === 'paused');
    held.release();
    await handle.signal(resumeSignal, { by: 'li' });
    await approving;
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
    expect(status.decisions.filter(({ decision }) => decision === 'resume')).toHaveLength(1);
    expect(status.phases.find((phase) => phase.state === 'blocked')).toBeUndefined();
  });
});
