import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { abortSignal, resumeSignal, taskQueue } from '../../src/workflows/messages.ts';
import type { migrateNodes } from '../../src/workflows/migrate-nodes.ts';
import type { Handle, Harness } from './harness.ts';
import { approveAll, startHarness, statusOf, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

/** As `temporal workflow start` does it with an id of one's own. */
function startAs(workflowId: string, { plan }: World): Promise<Handle> {
  return harness.environment.client.workflow.start<typeof migrateNodes>('migrateNodes', {
    workflowId,
    taskQueue,
    args: [plan],
  });
}

describe.concurrent('two migrations of one cluster', () => {
  it('are refused before the second one has asked or touched anything, until the first has ended', async () => {
    const world = createWorld(planOf('twice'));
    const first = await harness.start(world.plan);
    await untilGate(first, 'open-downtime');
    const second = await startAs('migrate-twice/by-hand', world);
    const { blocked } = await untilBlocked(second);
    const touched = world.calls.filter((name) => name === 'preflight').length;
    await approveAll(first);
    await first.result();
    const released = world.holder;
    await second.signal(resumeSignal, { by: 'li' });
    await untilGate(second, 'open-downtime');

    expect(blocked).toMatchObject({
      phase: 'preflight',
      cause: 'workflow migrate-twice is at work',
      next: 'ferry status migrate-twice',
    });
    expect(touched).toBe(1);
    expect(released).toBeUndefined();
    expect(world.holder?.workflowId).toBe('migrate-twice/by-hand');
    await second.terminate();
  });

  it('leave the first one alone when the second is given up', async () => {
    const world = createWorld(planOf('given-up'));
    const first = await harness.start(world.plan);
    await untilGate(first, 'open-downtime');
    const second = await startAs('migrate-given-up/by-hand', world);
    await untilBlocked(second);
    await second.signal(abortSignal, { by: 'li', reason: 'the other one does it' });
    const { outcome } = await second.result();

    expect(outcome).toBe('rolled-back');
    expect(world.holder?.workflowId).toBe('migrate-given-up');
    expect((await statusOf(first)).awaitingGate).toBe('open-downtime');
    await first.terminate();
  });

  it('stop at the window when the mark has come to another one meanwhile', async () => {
    const world = createWorld(planOf('taken'));
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    world.holder = { workflowId: 'another', namespace: 'default', firstRunId: 'another' };
    await approveAll(handle, ['open-downtime']);
    const { blocked } = await untilBlocked(handle);

    expect(blocked).toMatchObject({ phase: 'stop-apps', cause: 'workflow another is at work' });
    expect(world.state.applications).toBe('running');
    await handle.terminate();
  });
});

describe.concurrent('a migration is not begun', () => {
  it.each([
    [
      'timeout',
      'with a timeout that would end it',
      { workflowExecutionTimeout: '4 hours' },
      [],
      'without --execution-timeout',
    ],
    [
      'run-timeout',
      'with a timeout of its first run',
      { workflowRunTimeout: '4 hours' },
      [],
      'without --execution-timeout',
    ],
    ['carried', 'with a state that is not its own', {}, [{}], 'a second argument'],
  ])('%s: %s', async (cluster, _how, options, more, why) => {
    const world = createWorld(planOf(`start-${cluster}`));
    const handle = await harness.environment.client.workflow.start('migrateNodes', {
      workflowId: `migrate-${world.plan.cluster}`,
      taskQueue,
      args: [world.plan, ...more],
      ...options,
    });

    await expect(handle.result()).rejects.toMatchObject({
      cause: { type: 'InvalidStart', message: expect.stringContaining(why) as string },
    });
    expect(world.calls).toEqual([]);
  });
});
