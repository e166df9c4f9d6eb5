import { ApplicationFailure } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PassInput, TransferActivities } from '../../src/activities/transfer-contract.ts';
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

const patience = { timeout: 20_000 };

/** A worker with the real workflow and a mover without machines, of which a part is replaced; `run` while it works. */
async function withMover(queue: string, own: Partial<TransferActivities>, run: () => Promise<void>): Promise<void> {
  const worker = await Worker.create({
    connection: harness.environment.nativeConnection,
    taskQueue: queue,
    workflowsPath: new URL('../../src/workflows/all.ts', import.meta.url).pathname,
    activities: { ...createCopyModel(), ...own },
  });
  await worker.runUntil(run);
}

describe('a copy that holds', () => {
  it('goes on for days in histories that stay short, with the limit that people gave it', async () => {
    const { client } = harness.environment;
    const limits: number[] = [];
    let ends = 0;
    const model = createCopyModel();
    const mover: Partial<TransferActivities> = {
      runPass: async (input) => {
        limits.push(input.limitKiBps);
        return model.runPass(input);
      },
      finishTransfer: async (input) => {
        ends += 1;
        return model.finishTransfer(input);
      },
    };
    await withMover('holding', mover, async () => {
      const handle = await client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
        workflowId: 'holding',
        taskQueue: 'holding',
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
      // What people say while a run tidies up behind itself would never reach the next one.
      expect(ends).toBe(1);
    });
  });
});

describe('a pass at work', () => {
  it.each([
    ['rsync', ['pass 1 at 500', 'pass 2 at 700', 'pass 3 at 0']],
    // It empties the destination, and would never come to its end.
    ['tar', ['pass 1 at 500']],
  ] as const)('by %s, when people and the hour change the limit: %j', async (tool, expected) => {
    const { environment } = harness;
    const told = new Set<string>();
    const model = createCopyModel();
    let isAway = true;
    const mover: Partial<TransferActivities> = {
      prepareTransfer: async (input) => {
        const prepared = await model.prepareTransfer(input);
        return { ...prepared, choice: { ...prepared.choice, tool } };
      },
      runPass: async (input) => {
        told.add(`pass ${input.pass} at ${input.limitKiBps}`);
        if (!isAway) return model.runPass(input);
        throw ApplicationFailure.create({ type: 'Transient', message: 'old1 is out of reach', nextRetryDelay: '3h' });
      },
    };
    const now = await environment.currentTimeMs();
    const clock = (hours: number): string => new Date(now + hours * 3_600_000).toISOString().slice(11, 16);
    const request = copyRequest({
      mode: 'live',
      maxPasses: 1,
      limitKiBps: 500,
      schedule: [{ from: clock(1), to: clock(12), limitKiBps: 0 }],
    });

    await withMover(`limits-${tool}`, mover, async () => {
      const handle = await environment.client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
        workflowId: `limits-${tool}`,
        taskQueue: `limits-${tool}`,
        args: [request],
      });
      await expect.poll(() => told.size, patience).toBe(1);
      await handle.signal(tuneSignal, { by: 'li', preCopyKiBps: 700 });
      await expect.poll(async () => (await handle.query(copyQuery)).limitKiBps, patience).toBe(700);
      await expect.poll(() => told.size, patience).toBe(Math.min(2, expected.length));
      await environment.sleep('2 hours');
      isAway = false;
      await handle.result();
    });

    expect([...told]).toEqual(expected);
  });
});

describe('a final copy', () => {
  it.each([
    ['hard links a became -', true],
    ['mode 644 became 600, hard links - became a', true],
    ['content differs', false],
  ])('that differs in %j compares all content, and parts names first: %s', async (what, isParted) => {
    const { client } = harness.environment;
    const passes: PassInput[] = [];
    const model = createCopyModel();
    const queue = `final-${what.length}`;
    const mover: Partial<TransferActivities> = {
      runPass: async (input) => {
        passes.push(input);
        return model.runPass(input);
      },
      verifyTransfer: async (input) => {
        const verification = await model.verifyTransfer(input);
        return verification.equal ? verification : { ...verification, differences: [{ path: 'a', what }] };
      },
    };

    await withMover(queue, mover, async () => {
      const outcome = await client.workflow.execute<typeof replicateDirectory>('replicateDirectory', {
        workflowId: queue,
        taskQueue: queue,
        args: [copyRequest({ mode: 'final' })],
      });
      expect(outcome.digest).toMatch(/^sha256:/);
    });

    expect(passes.map(({ content, partLinks }) => [content, partLinks ?? false])).toEqual([
      ['changed', false],
      ['all', isParted],
    ]);
  });
});
