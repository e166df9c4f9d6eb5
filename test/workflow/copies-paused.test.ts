import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TransferActivities } from '../../src/activities/transfer-contract.ts';
import { pauseSignal, resumeSignal } from '../../src/workflows/messages.ts';
import type { replicateDirectory } from '../../src/workflows/replicate-directory.ts';
import { copyQuery } from '../../src/workflows/replicate-messages.ts';
import { copyRequest, createCopyModel } from '../replay/copy-model.ts';
import type { Harness } from './harness.ts';
import { startHarness } from './harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

/** Beats until somebody ends the activity that runs. */
async function untilCancelled(): Promise<void> {
  const context = Context.current();
  while (!context.cancellationSignal.aborted) {
    context.heartbeat();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('a pass at work', () => {
  it.each([
    ['between two tries', undefined],
    ['in a try that cannot end it', untilCancelled],
  ])('is ended on the machines by a pause that meets it %s', async (_, work) => {
    const { client, nativeConnection } = harness.environment;
    const queue = `paused-${work?.name ?? 'between'}`;
    const told: string[] = [];
    const model = createCopyModel();
    const mover: Partial<TransferActivities> = {
      runPass: async (input) => {
        told.push(`pass ${input.pass}`);
        if (input.pass > 1) return model.runPass(input);
        await work?.();
        throw ApplicationFailure.create({ type: 'Transient', message: 'old1 is out of reach', nextRetryDelay: '1h' });
      },
      finishTransfer: async (input) => {
        told.push('end');
        return model.finishTransfer(input);
      },
    };

    const worker = await Worker.create({
      connection: nativeConnection,
      taskQueue: queue,
      workflowsPath: new URL('../../src/workflows/all.ts', import.meta.url).pathname,
      activities: { ...model, ...mover },
      maxHeartbeatThrottleInterval: 50,
    });
    await worker.runUntil(async () => {
      const handle = await client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
        workflowId: queue,
        taskQueue: queue,
        args: [copyRequest({ mode: 'live', maxPasses: 1 })],
      });
      await expect.poll(() => told, { timeout: 20_000 }).toEqual(['pass 1']);
      await handle.signal(pauseSignal, { by: 'li', reason: 'old1 groans' });
      await expect.poll(async () => (await handle.query(copyQuery)).state, { timeout: 20_000 }).toBe('paused');
      expect(told).toEqual(['pass 1', 'end']);
      await handle.signal(resumeSignal, { by: 'li' });
      await handle.result();
    });

    expect(told).toEqual(['pass 1', 'end', 'pass 2', 'end']);
  });
});
