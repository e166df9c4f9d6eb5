import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { needsHuman, transient } from '../../src/activities/failures.ts';
import { readHistory } from '../../src/client/report-history.ts';
import { reportMarkdown } from '../../src/client/report-text.ts';
import { reportOf } from '../../src/client/report-of.ts';
import { resumeSignal } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { startHarness, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { activities, createWorld } from './world.ts';

const failure = (cause: string): Parameters<typeof transient>[0] => ({
  what: 'the Secrets are not saved',
  cause,
  // Long enough to be cut where it is kept: what is handed on must not be in what is cut away.
  untouched: 'everything '.repeat(60),
  next: 'nothing',
});

/** What each call of `backupSecrets` throws, in order. */
const script: (() => unknown)[] = [
  () => transient(failure('old1 was away')),
  () => transient(failure('old1 was away')),
  () => needsHuman(failure('the disk is full')),
  () => transient(failure('old1 was slow')),
  () => new TypeError('nobody thought of this'),
  () => transient(failure('old1 was slow again')),
];

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development', {
    // As the product's worker has it: what is said at the end of a try must not wait.
    heartbeatThrottle: 5000,
    activities: {
      backupSecrets: async (input) => {
        const next = script.shift();
        if (next !== undefined) throw next();
        return activities.backupSecrets(input);
      },
    },
  });
});
afterAll(() => harness.stop());

describe('the tries of an activity', () => {
  it('are all in the report, each with its cause, from history alone', { timeout: 120_000 }, async () => {
    const plan = planOf('tried');
    createWorld(plan);
    const handle = await harness.start(plan);
    await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await untilGate(handle, 'open-downtime');

    const report = reportOf(await readHistory(harness.environment.client, handle.workflowId), new Date().toISOString());
    await handle.terminate('seen enough');
    const told = report.retries.filter(({ activity }) => activity === 'backupSecrets');

    expect(script).toEqual([]);
    expect(told.map(({ attempts, tries }) => [attempts, tries])).toEqual([
      [3, [{ from: 1, to: 2, cause: 'the Secrets are not saved: old1 was away' }]],
      [
        4,
        [
          { from: 1, to: 1, cause: 'the Secrets are not saved: old1 was slow' },
          { from: 2, to: 2, cause: 'nobody thought of this' },
          { from: 3, to: 3, cause: 'the Secrets are not saved: old1 was slow again' },
        ],
      ],
    ]);
    expect(report.failures.map(({ cause }) => cause)).toEqual([expect.stringContaining('the disk is full')]);
    expect(reportMarkdown(report)).toContain('1–2: the Secrets are not saved: old1 was away');
  });
});
