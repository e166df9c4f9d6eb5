import { statSync } from 'node:fs';
import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import type { WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { beforeAll, describe, expect, it } from 'vitest';
import { historiesFolder, readHistory, savedNames } from './histories.ts';

/** Refused histories are expected here and need no stack traces on the screen. */
const logger = new DefaultLogger('ERROR', () => undefined);
const names = savedNames();

function bundle(path: string): Promise<WorkflowBundleWithSourceMap> {
  return bundleWorkflowCode({ workflowsPath: new URL(path, import.meta.url).pathname, logger });
}

/** What went wrong, by the name of the history; undefined where the code still does what it did. */
async function replay(
  workflowBundle: WorkflowBundleWithSourceMap,
  histories: ReturnType<typeof readHistory>[],
): Promise<Map<string, Error | undefined>> {
  const errors = new Map<string, Error | undefined>();
  const results = Worker.runReplayHistories({ workflowBundle }, histories);
  let index = 0;
  for await (const { error } of results) {
    errors.set(histories[index]?.name ?? '', error);
    index += 1;
  }
  return errors;
}

let product: WorkflowBundleWithSourceMap;
let changed: WorkflowBundleWithSourceMap;
beforeAll(async () => {
  Runtime.install({ logger, telemetryOptions: { logging: { filter: { core: 'ERROR', other: 'ERROR' } } } });
  product = await bundle('../../src/workflows/all.ts');
  changed = await bundle('changed.ts');
});

describe('saved histories', () => {
  it('are of every kind that a change of the code could break, and small', () => {
    expect(names).toEqual([
      'blocked',
      'copy-final',
      'copy-live',
      'masters',
      'migrated',
      'parked-1',
      'parked-2',
      'rolled-back',
    ]);
    for (const name of names) expect(statSync(join(historiesFolder, `${name}.json`)).size).toBeLessThan(1_000_000);
  });

  it.each([
    ['migrated', 'EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED'],
    ['rolled-back', '"signalName":"reject"'],
    ['masters', '"name":"leaveEtcd"'],
    ['parked-1', 'EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW'],
    ['parked-2', '"continuedExecutionRunId":"'],
    ['blocked', 'EVENT_TYPE_ACTIVITY_TASK_FAILED'],
    ['copy-live', '"signalName":"finish-hold"'],
    ['copy-final', '"name":"verifyTransfer"'],
  ])('%s holds what it is kept for', (name, text) => {
    let isThere = false;
    readHistory(name, (before) => {
      isThere = before.includes(text);
      return before;
    });

    expect(isThere).toBe(true);
  });

  it('replay on the code as it is: a migration at work survives the new worker', async () => {
    const errors = await replay(
      product,
      names.map((name) => readHistory(name)),
    );

    expect([...errors].filter(([, error]) => error !== undefined)).toEqual([]);
    expect([...errors.keys()]).toEqual(names);
  });

  it('each refuse code that does something else', async () => {
    const errors = await replay(
      changed,
      names.map((name) => readHistory(name)),
    );

    expect([...errors.keys()]).toEqual(names);
    for (const [name, error] of errors) expect([name, error]).toEqual([name, expect.any(DeterminismViolationError)]);
  });

  it.each([
    ['another order', (text: string) => text.replaceAll('"name":"backupSecrets"', '"name":"prewarmHost"')],
    ['another child', (text: string) => text.replaceAll('"name":"replicateDirectory"', '"name":"copyDirectory"')],
  ])('refuse a history of %s', async (_name, change) => {
    const errors = await replay(product, [readHistory('migrated', change)]);

    expect(errors.get('migrated')).toBeInstanceOf(DeterminismViolationError);
  });
});
