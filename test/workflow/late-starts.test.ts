import { afterAll, beforeAll, expect, it } from 'vitest';
import { pauseUpdate, resumeUpdate, tuneUpdate } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { startHarness, statusOf, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('time-skipping', {
    workflowInterceptorModules: [new URL('late-starts.ts', import.meta.url).pathname],
  });
});
afterAll(() => harness.stop());

it('a copy that is being started hears of a limit and of a pause all the same', async () => {
  const plan = planOf('late-starts', { limits: { preCopyKiBps: 40_000 } }, ['redis']);
  const world = createWorld(plan);
  const hold = world.hold('copyOnce', 'after');

  const handle = await harness.start(plan);
  await hold.reached;
  await handle.executeUpdate(tuneUpdate, { args: [{ by: 'li', preCopyKiBps: 3_000 }] });
  await handle.executeUpdate(pauseUpdate, { args: [{ by: 'li', reason: 'the disks groan' }] });
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  hold.release();
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const paused = await statusOf(handle);
  await handle.executeUpdate(resumeUpdate, { args: [{ by: 'li' }] });
  await untilGate(handle, 'open-downtime');
  const { transfer, limitKiBps } = world.limits[0] ?? {};
  const tuned = world.tunes.filter((tune) => tune.transfer === transfer);
  await handle.terminate();

  // A copy of the model world comes to its end only when it is not paused.
  expect(paused.transfers.find(({ id }) => id === transfer)?.state).toBe('copying');
  expect(tuned).toHaveLength(1);
  expect(tuned[0]?.limitKiBps).toBeLessThan(limitKiBps ?? 0);
});
