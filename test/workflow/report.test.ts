import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FailureDetail } from '../../src/activities/contract.ts';
import { readHistory } from '../../src/client/report-history.ts';
import { reportHtml } from '../../src/client/report-html.ts';
import type { ReportModel } from '../../src/client/report-model.ts';
import { reportOf } from '../../src/client/report-of.ts';
import { verdictOnDowntime } from '../../src/client/report-text.ts';
import { abortSignal, approveSignal, approveUpdate, resumeSignal } from '../../src/workflows/messages.ts';
import type { Handle, Harness } from './harness.ts';
import { approve, approveAll, startHarness, statusOf, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  // The time-skipping server does not keep what the last failed try said.
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

async function report({ workflowId }: Handle, run?: string): Promise<ReportModel> {
  const history = await readHistory(harness.environment.client, workflowId, run);
  return reportOf(history, new Date().toISOString());
}

describe('the report of a real history', () => {
  it('tells of a migration that runs and of the same one when it is done', async () => {
    const plan = planOf('reported');
    createWorld(plan);
    const handle = await harness.start(plan);
    await untilGate(handle, 'open-downtime');
    const early = await report(handle);
    await handle.executeUpdate(approveUpdate, { args: [{ gate: 'open-downtime', by: 'li', reason: 'window' }] });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { status } = await handle.result();
    const late = await report(handle);

    expect(early).toMatchObject({ outcome: 'running', cluster: 'reported', planDigest: plan.digest });
    expect(early.gates[0]).toMatchObject({ name: 'open-downtime', state: 'awaiting' });
    expect(
      early.phases.filter(({ startedAt }) => startedAt !== undefined).map(({ name, state }) => [name, state]),
    ).toEqual([
      ['preflight', 'done'],
      ['prewarm', 'done'],
      ['backup', 'done'],
      ['replicate', 'done'],
    ]);
    expect(early.transfers.every(({ passes }) => passes.length > 0)).toBe(true);

    expect(late).toMatchObject({ outcome: 'migrated', gaps: [] });
    expect(late.phases.map(({ name, state }) => [name, state])).toEqual(
      status.phases.map(({ name, state }) => [name, state]),
    );
    expect(late.decisions.map(({ by, gate, counted, via }) => [by, gate, counted, via])).toEqual([
      ['li', 'open-downtime', true, 'update'],
      ['li', 'remove-nodes', true, 'signal'],
      ['li', 'close-downtime', true, 'signal'],
    ]);
    expect(late.decisions.every(({ identity }) => (identity ?? '') !== '')).toBe(true);
    expect(late.transfers.map(({ state }) => state)).toEqual(plan.transfers.map(() => 'verified'));
    expect(late.placement.map(({ before }) => before)).toContain('old1');
    expect(late.probes.length).toBeGreaterThan(0);
    expect(late.notifications.map(({ event, gate, delivered }) => [event, gate, delivered])).toEqual([
      ['gate', 'open-downtime', ['pager']],
      ['gate', 'remove-nodes', ['pager']],
      ['gate', 'close-downtime', ['pager']],
      ['finished', undefined, ['pager']],
    ]);
    expect(late.versions.some(({ name }) => name === 'worker')).toBe(true);
    expect(reportHtml(late)).toContain('window');
  });

  it('tells of a migration that was rolled back', async () => {
    const plan = planOf('reported-back');
    createWorld(plan);
    const handle = await harness.start(plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    await handle.signal(abortSignal, { by: 'li', reason: 'changed our minds' });
    await handle.result();
    const model = await report(handle);

    expect(model.outcome).toBe('rolled-back');
    expect(model.phases.some(({ state }) => state === 'undone')).toBe(true);
    expect(model.decisions.at(-1)).toMatchObject({ decision: 'abort', by: 'li', reason: 'changed our minds' });

    // The same id once more: the record of the first try stays within reach.
    const again = await harness.start(plan);
    await untilGate(again, 'open-downtime');
    let second = await report(again);
    for (let tries = 0; second.earlier === undefined && tries < 100; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      second = await report(again);
    }
    const [run] = model.runs;
    const first = await report(again, run?.runId);
    await again.terminate('seen enough');

    expect(second).toMatchObject({ outcome: 'running', earlier: [{ runId: run?.runId, outcome: 'rolled back' }] });
    expect(first).toMatchObject({ outcome: 'rolled-back', runs: model.runs });
    expect(first).not.toHaveProperty('earlier');
    await expect(report(again, 'no-such-run')).rejects.toThrow('keeps no run no-such-run of migrate-reported-back');
    await expect(report(again, randomUUID())).rejects.toThrow('keeps no run');
  });

  it('tells of a window in which the workflow was terminated', async () => {
    const plan = planOf('reported-broken');
    const world = createWorld(plan);
    const detail: FailureDetail = { cause: 'a finalizer blocks', untouched: 'the rest', next: 'look' };
    world.fail('stopHostServices', 'NeedsHuman', detail);
    const handle = await harness.start(plan);
    await untilGate(handle, 'open-downtime');
    await handle.signal(approveSignal, { gate: 'open-downtime', by: 'li', reason: 'window' });
    await untilBlocked(handle);
    const status = await statusOf(handle);
    const running = await report(handle);
    await handle.terminate('enough');
    const model = await report(handle);

    const [gate] = running.gates;
    const stop = running.phases.find(({ name }) => name === 'stop-apps');
    const said = status.phases.find(({ name }) => name === 'stop-apps');
    const begun = (one: ReportModel): [string, string][] =>
      one.phases.filter(({ startedAt }) => startedAt !== undefined).map(({ name, state }) => [name, state]);
    expect(begun(running)).toContainEqual(['stop-host-services', 'running']);
    expect(begun(model)).toContainEqual(['stop-apps', 'done']);
    expect(begun(model)).toContainEqual(['stop-host-services', 'broken off']);
    // What people saw when they approved is what the workflow kept of it, to the second.
    const kept = status.decisions.find(({ decision }) => decision === 'approve');
    expect(running.downtime).toMatchObject({
      projectedFrom: 'approval',
      projectedSeconds: kept?.projectedDowntimeSeconds,
    });
    expect(verdictOnDowntime(running).text).toMatch(/^open since /);
    expect(model.downtime.endedAt).toBeUndefined();
    expect(verdictOnDowntime(model).text).toContain('when the workflow ended (terminated)');
    expect(running.phases.map(({ section }) => section)).toEqual(status.phases.map(({ section }) => section));
    expect(stop?.detail).toBe(said?.detail);
    // Nothing of the window began before it was approved, and all that is done ends when the workflow said so.
    expect(Date.parse(stop?.startedAt ?? '')).toBeGreaterThanOrEqual(Date.parse(gate?.decidedAt ?? ''));
    expect(Math.abs(Date.parse(stop?.doneAt ?? '') - Date.parse(said?.doneAt ?? ''))).toBeLessThan(500);
  });

  it('tells of tries that failed and of a phase that was blocked, with their causes', async () => {
    const plan = planOf('reported-trouble');
    const world = createWorld(plan);
    const detail = (cause: string): FailureDetail => ({ cause, untouched: 'everything', next: 'nothing' });
    world.fail('backupSecrets', 'NeedsHuman', detail('the disk is full'));
    world.fail('prewarmHost', 'Transient', detail('the registry was away'), 1);
    const handle = await harness.start(plan);
    await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await untilGate(handle, 'open-downtime');
    const model = await report(handle);
    await handle.terminate('seen enough');
    const last = await report(handle);

    expect(model.failures.map(({ type, cause }) => [type, cause])).toContainEqual([
      'NeedsHuman',
      expect.stringContaining('the disk is full'),
    ]);
    expect(model.retries.map(({ activity, attempts, cause }) => [activity, attempts, cause])).toContainEqual([
      'prewarmHost',
      2,
      expect.stringContaining('the registry was away'),
    ]);
    expect(model.retries.find(({ activity }) => activity === 'prewarmHost')?.tries).toEqual([
      { from: 1, to: 1, cause: 'the registry was away' },
    ]);
    expect(model.decisions).toMatchObject([{ decision: 'resume', by: 'li' }]);
    expect(last).toMatchObject({ outcome: 'terminated', why: expect.stringContaining('seen enough') as string });
  });
});
