import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { historyEvents } from '../../src/workflows/policies.ts';
import type { replicateDirectory } from '../../src/workflows/replicate-directory.ts';
import { copyQuery, finishHoldSignal } from '../../src/workflows/replicate-messages.ts';
import { tuneSignal } from '../../src/workflows/messages.ts';
import { copyRequest, createCopyModel } from '../replay/copy-model.ts';
import type { Harness } from './harness.ts';
import { startHarness } from './harness.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('time-skipping');
});
afterAll(() => harness.stop());

describe('a copy that holds', () => {
  it('goes on for days in histories that stay short, with the limit that people gave it', async () => {
    const { client, nativeConnection } = harness.environment;
    const queue = 'holding';
    const limits: number[] = [];
    const model = createCopyModel();
    const worker = await Worker.create({
      connection: nativeConnection,
      taskQueue: queue,
      workflowsPath: new URL('../../src/workflows/all.ts', import.meta.url).pathname,
      activities: {
        ...model,
        runPass: (input: Parameters<typeof model.runPass>[0]) => {
          limits.push(input.limitKiBps);
          return model.runPass(input);
        },
      },
    });
    await worker.runUntil(async () => {
      const handle = await client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
        workflowId: 'holding',
        taskQueue: queue,
        args: [copyRequest({ mode: 'live', hold: true, holdSeconds: 60 })],
      });
      await harness.environment.sleep('1 hour');
      await handle.signal(tuneSignal, { by: 'li', preCopyKiBps: 700 });
      await harness.environment.sleep('6 days');
      const latest = client.workflow.getHandle<typeof replicateDirectory>('holding');
      const { runId } = await latest.describe();
      const status = await latest.query(copyQuery);
      const events = ((await latest.fetchHistory()).events ?? []).length;
      await latest.signal(finishHoldSignal);
      const outcome = await latest.result();

      expect(runId).not.toBe(handle.firstExecutionRunId);
      expect(events).toBeLessThan(historyEvents + 100);
      expect(limits.length).toBeGreaterThan(300);
      expect(limits.at(-1)).toBe(700);
      expect(status).toMatchObject({ limitKiBps: 700 });
      expect(outcome.passes.length).toBeLessThanOrEqual(20);
      expect(outcome.passes.at(-1)?.pass).toBe(limits.length);
      expect(outcome.ready).toBe(true);
    });
  });
});
