/**
 * Records the histories that test/replay/replay.test.ts replays: `npm run record-histories [NAME…]`. Whole migrations of the model world
 * and single copies, on the time-skipping server. Record anew only when a change of the workflow's sequence is meant and no migration
 * that began before it is still at work.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkflowHandle } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { rejectSignal, resumeSignal, taskQueue } from '../../src/workflows/messages.ts';
import type { replicateDirectory } from '../../src/workflows/replicate-directory.ts';
import { finishHoldSignal } from '../../src/workflows/replicate-messages.ts';
import type { Handle, Harness } from '../workflow/harness.ts';
import { approve, approveAll, startHarness, untilBlocked, untilGate } from '../workflow/harness.ts';
import { planOf, stackedPlanOf } from '../workflow/plans.ts';
import { createWorld } from '../workflow/world.ts';
import { copyRequest, createCopyModel } from './copy-model.ts';
import { historiesFolder, writeHistory } from './histories.ts';

/** One run of one workflow. */
type Run = Pick<WorkflowHandle, 'workflowId' | 'fetchHistory'>;
/** Makes something happen and answers the runs worth keeping, by the name of their file. */
type Scenario = (harness: Harness) => Promise<Record<string, Run>>;

const scenarios: Record<string, Scenario> = {
  migrated: async (harness) => {
    const { plan } = createWorld(planOf('migrated'));
    const handle = await harness.start(plan);
    await approveAll(handle);
    await handle.result();
    return { migrated: handle };
  },
  'rolled-back': async (harness) => {
    const { plan } = createWorld(planOf('rejected'));
    const handle = await harness.start(plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    await handle.signal(rejectSignal, { gate: 'remove-nodes', by: 'li', reason: 'redis is slow' });
    await handle.result();
    return { 'rolled-back': handle };
  },
  masters: async (harness) => {
    const { plan } = createWorld(stackedPlanOf('masters'));
    const handle = await harness.start(plan);
    await approveAll(handle);
    await handle.result();
    return { masters: handle };
  },
  blocked: async (harness) => {
    const world = createWorld(planOf('blocked'));
    world.fail('uninstallComponent', 'NeedsHuman', {
      cause: 'a finalizer holds the claim',
      untouched: 'all other components',
      next: 'take the finalizer away',
    });
    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    await handle.result();
    return { blocked: handle };
  },
  parked: async (harness) => {
    const world = createWorld(planOf('parked', { limits: { refreshSeconds: 21_600 }, notify: [] }, ['redis']));
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    const first = await harness.environment.client.workflow.getHandle(handle.workflowId).describe();
    await untilNextRun(harness, handle, first.runId);
    const latest = harness.latest(handle);
    await approveAll(latest);
    await latest.result();
    const run = (runId?: string): Run => harness.environment.client.workflow.getHandle(handle.workflowId, runId);
    return { 'parked-1': run(first.runId), 'parked-2': run() };
  },
  copies: async (harness) => {
    const { client, nativeConnection } = harness.environment;
    const queue = `${taskQueue}-copies`;
    const worker = await Worker.create({
      connection: nativeConnection,
      taskQueue: queue,
      workflowsPath: join(import.meta.dirname, '..', '..', 'src', 'workflows', 'all.ts'),
      activities: createCopyModel(),
    });
    return worker.runUntil(async () => {
      const start = (
        id: string,
        input: ReturnType<typeof copyRequest>,
      ): Promise<WorkflowHandle<typeof replicateDirectory>> =>
        client.workflow.start<typeof replicateDirectory>('replicateDirectory', {
          workflowId: id,
          taskQueue: queue,
          args: [input],
        });
      const live = await start('copy-live', copyRequest({ mode: 'live', hold: true, holdSeconds: 600 }));
      await harness.environment.sleep('3 hours');
      await live.signal(finishHoldSignal);
      await live.result();
      const final = await start('copy-final', copyRequest({ mode: 'final' }));
      await final.result();
      return { 'copy-live': live, 'copy-final': final };
    });
  },
};

/** Passes days until a wait was carried on in a fresh history. */
async function untilNextRun(harness: Harness, handle: Handle, firstRunId: string): Promise<void> {
  for (let day = 0; day < 120; day += 5) {
    await harness.environment.sleep('5 days');
    const { runId } = await harness.latest(handle).describe();
    if (runId !== firstRunId) return;
  }
  throw new Error('the wait was never carried on in a fresh history');
}

async function save(name: string, run: Run): Promise<void> {
  const text = writeHistory(run.workflowId, await run.fetchHistory());
  await writeFile(join(historiesFolder, `${name}.json`), text);
  console.log(`${name}: ${text.split('\n').length - 3} events, ${Math.round(text.length / 1024)} KiB`);
}

async function main(): Promise<void> {
  const only = process.argv.slice(2);
  const unknown = only.filter((name) => scenarios[name] === undefined);
  if (unknown.length > 0) throw new Error(`no such scenario: ${unknown.join(', ')}`);
  await mkdir(historiesFolder, { recursive: true });
  const harness = await startHarness('time-skipping');
  try {
    for (const [name, scenario] of Object.entries(scenarios)) {
      if (only.length > 0 && !only.includes(name)) continue;
      for (const [file, run] of Object.entries(await scenario(harness))) await save(file, run);
    }
  } finally {
    await harness.stop();
  }
}

await main();
