import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { approveSignal, pauseUpdate, rejectSignal, resumeUpdate, tuneUpdate } from '../../src/workflows/messages.ts';
import { historyEvents } from '../../src/workflows/policies.ts';
import type { Harness } from './harness.ts';
import { approve, approveAll, startHarness, statusOf, until, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('time-skipping');
});
afterAll(() => harness.stop());

describe('waiting for people', () => {
  it('keeps copies fresh for weeks in a history that stays short', async () => {
    const world = createWorld(planOf('fortnight', { limits: { refreshSeconds: 14_400 } }, ['redis', 'kafka']));

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    const first = await statusOf(handle);
    const { runId: firstRunId } = await handle.describe();
    await harness.environment.sleep('15 days');
    await untilGate(handle, 'open-downtime');
    const copies = world.calls.filter((call) => call === 'copyOnce').length;
    const events = ((await harness.latest(handle).fetchHistory()).events ?? []).length;
    const latest = harness.latest(handle);
    const { runId } = await latest.describe();
    await approveAll(latest);
    const result = await latest.result();

    // One round every four hours: more events than one history is given, also where a busy worker takes several at once.
    expect(copies).toBeGreaterThan(80 * world.plan.transfers.length);
    expect(runId).not.toBe(firstRunId);
    // It is the same migration in every one of its histories: it held the cluster all the time, and let it go.
    expect(world.calls.filter((call) => call === 'holdCluster')).toHaveLength(2);
    expect(world.holder).toBeUndefined();
    expect(events).toBeLessThan(historyEvents + 500);
    expect(first.downtime.projectedSeconds).toBeGreaterThan(0);
    expect(result.outcome).toBe('migrated');
    expect(result.status.transfers[0]?.passes.length).toBeLessThanOrEqual(20);
    expect(world.violations).toEqual([]);
  });

  it('rests longer when nothing changes any more', async () => {
    const world = createWorld(planOf('quiet', {}, ['redis']));
    world.dirtyBytes = 0;

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    await harness.environment.sleep('1 day');
    const rounds = world.calls.filter((call) => call === 'copyOnce').length / world.plan.transfers.length;
    await handle.terminate();

    // Every 40 minutes instead of every 5.
    expect(rounds).toBeGreaterThan(20);
    expect(rounds).toBeLessThan(50);
  });

  it('copies again now and then only what moves everything every time', async () => {
    const world = createWorld(planOf('by-tar', {}, ['redis']));
    const [slow, ...others] = world.plan.transfers.map(({ id }) => id);
    world.whole.set(slow ?? '', 3600);
    const copies = (id: string | undefined): number => world.limits.filter(({ transfer }) => transfer === id).length;

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    await harness.environment.sleep('2 days');
    const mixed = [slow, others[0]].map(copies);
    const status = await statusOf(handle);
    for (const id of others) world.whole.set(id, 7200);
    await harness.environment.sleep('1 hour');
    const before = others.map(copies);
    await harness.environment.sleep('3 days');
    const alone = others.map(copies).map((count, index) => count - (before[index] ?? 0));
    await handle.terminate();

    // An hour's copy every twenty hours, after the first one.
    expect(mixed[0]).toBe(3);
    expect(mixed[1]).toBeGreaterThan(100);
    expect(status.phases.find(({ name }) => name === 'replicate')?.detail).toMatch(
      /, 1 by tar, which moves everything: again for at most a twentieth of the time; projected downtime/,
    );
    // Two hours' every forty, and nothing else to do meanwhile.
    expect(alone).toEqual(others.map(() => 1));
  });

  it('reminds people once a day and never expires', async () => {
    const world = createWorld(planOf('reminder'));

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    const before = world.notified.filter((event) => event === 'gate').length;
    await harness.environment.sleep('50 hours');
    const status = await untilGate(handle, 'remove-nodes');
    const after = world.notified.filter((event) => event === 'gate').length;
    await handle.terminate();

    expect(after - before).toBe(2);
    expect(status.gates.find((gate) => gate.name === 'remove-nodes')?.state).toBe('awaiting');
  });

  it.each([
    ['which rests for days', { limits: { refreshSeconds: 86_400 } }],
    ['without data to move', { components: [], transfers: [] }],
  ])('reminds people once a day at the first gate of a migration %s', async (name, change) => {
    const world = createWorld(planOf(`reminder-first-${name.length}`, change, ['redis']));
    world.dirtyBytes = 0;

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    const before = world.notified.filter((event) => event === 'gate').length;
    await harness.environment.sleep('5 days');
    const after = world.notified.filter((event) => event === 'gate').length;
    const rounds = world.calls.filter((call) => call === 'copyOnce').length / Math.max(1, world.plan.transfers.length);
    await handle.terminate();

    // Looked at every six hours: a day can become thirty hours, never more.
    expect(after - before).toBeGreaterThanOrEqual(4);
    // The rest keeps its length although it is looked after more often: after one day, then two, then four; three passes came before.
    expect(rounds).toBeLessThanOrEqual(5);
  });

  it('projects the last delta from all passes, and says which directory does not converge', async () => {
    const world = createWorld(planOf('busy', { limits: { refreshSeconds: 3600 } }, ['redis']));
    // An hour's changes travel for five minutes.
    world.dirtyBytes = 30e9;
    world.passSeconds = 300;
    const busy = world.plan.transfers.map(({ id }) => id)[0] ?? '';

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    await harness.environment.sleep('5 hours');
    const status = await untilGate(handle, 'open-downtime');
    await handle.terminate();

    const { projectedFinalSeconds, advice } = status.transfers.find(({ id }) => id === busy) ?? {};
    expect(projectedFinalSeconds).toBeGreaterThan(250);
    expect(projectedFinalSeconds).toBeLessThan(400);
    expect(advice).toMatch(/^the final delta stays at .*; what would help: /);
    expect(status.phases.find(({ name }) => name === 'replicate')?.detail).toContain(
      `; ${busy}: the final delta stays`,
    );
  });

  it('tells who approves after a long pause how old the copies are', async () => {
    const world = createWorld(planOf('paused-for-long', {}, ['redis']));
    // 1.5 GB in five minutes, of 2 TB.
    world.dirtyBytes = 1.5e9;
    world.treeBytes = 2e12;
    world.passSeconds = 15;

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    await harness.environment.sleep('1 hour');
    const before = await untilGate(handle, 'open-downtime');
    await handle.executeUpdate(pauseUpdate, { args: [{ by: 'li', reason: 'good night' }] });
    await harness.environment.sleep('8 hours');
    await handle.signal(approveSignal, { gate: 'open-downtime', by: 'li', reason: 'now' });
    const { decisions } = await until(handle, 'the approval recorded', (status) => status.decisions.length === 2);
    await handle.terminate();

    // 5 MB/s for eight hours are 144 GB, at 100 MB/s, for each of the directories that share a host.
    const approved = decisions.at(-1)?.projectedDowntimeSeconds ?? 0;
    expect(approved - before.downtime.projectedSeconds).toBeGreaterThan(1300);
  });

  it('rests as usual after a round in which a copy was blocked for hours', async () => {
    const world = createWorld(planOf('blocked-round', {}, ['redis']));
    const rounds = (): number => world.calls.filter((call) => call === 'copyOnce').length / world.plan.transfers.length;

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    world.fail('copyOnce', 'NeedsHuman', { cause: 'disk full', untouched: 'nothing', next: 'make room' });
    await harness.environment.sleep('5 hours');
    await untilBlocked(handle);
    await handle.executeUpdate(resumeUpdate, { args: [{ by: 'li' }] });
    const before = rounds();
    await harness.environment.sleep('1 hour');
    const after = rounds();
    await handle.terminate();

    // Every five minutes again.
    expect(after - before).toBeGreaterThan(8);
  });

  it('checks the world once more before anything is stopped when people thought for long', async () => {
    const world = createWorld(planOf('checked-again', { limits: { refreshSeconds: 14_400 } }, ['redis']));
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    await harness.environment.sleep('3 days');
    await untilGate(handle, 'open-downtime');
    world.checksFailing.add('nodes');

    await approve(handle, 'open-downtime');
    const blocked = await untilBlocked(handle);
    const stopped = world.calls.includes('stopApplications');
    world.checksFailing.clear();
    await handle.executeUpdate(resumeUpdate, { args: [{ by: 'li' }] });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome, status } = await handle.result();

    expect(blocked.blocked).toMatchObject({ phase: 'stop-apps', cause: 'nodes: not as it was' });
    expect(blocked.downtime.startedAt).toBeUndefined();
    expect(stopped).toBe(false);
    expect(outcome).toBe('migrated');
    expect(status.phases.find(({ name }) => name === 'stop-apps')?.detail).toMatch(/^\d+ checks repeated; saved .*; /);
    const backups = world.inputs.filter(({ name }) => name === 'backupSecrets').map(({ input }) => input);
    expect(backups).toEqual([expect.not.objectContaining({ again: true }), expect.objectContaining({ again: true })]);
  });

  it('does not check again what was checked just before', async () => {
    const world = createWorld(planOf('checked-once', {}, ['redis']));
    const handle = await harness.start(world.plan);
    await approveAll(handle);
    await handle.result();

    expect(world.calls.filter((call) => call === 'preflight')).toHaveLength(1);
  });

  it('ends a round that runs when people decide, before anything is stopped', async () => {
    const world = createWorld(planOf('decided-in-round', { limits: { refreshSeconds: 10 } }));
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    const hold = world.hold('copyOnce');
    const waiting = harness.environment.sleep('15 seconds');
    await hold.reached;

    await handle.signal(approveSignal, { gate: 'open-downtime', by: 'li', reason: 'now' });
    await waiting;
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
  });

  it('rejecting an open gate during a round ends the round and the migration', async () => {
    const world = createWorld(planOf('rejected-in-round', { limits: { refreshSeconds: 10 } }));
    const initial = world.snapshot();
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    const hold = world.hold('copyOnce');
    const waiting = harness.environment.sleep('15 seconds');
    await hold.reached;

    await handle.signal(rejectSignal, { gate: 'open-downtime', by: 'li', reason: 'never' });
    await waiting;
    const { outcome } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(world.copiesNow).toBe(0);
    expect(world.snapshot()).toEqual(initial);
  });
});

describe('bandwidth', () => {
  it('is shared by the copies of a host, and a new limit reaches copies that run and copies to come', async () => {
    const plan = planOf('tuned', { limits: { preCopyKiBps: 40_000, transfersPerHost: 2, refreshSeconds: 10 } });
    const world = createWorld(plan);
    const hold = world.hold('copyOnce', 'after');

    const handle = await harness.start(plan);
    await hold.reached;
    await handle.executeUpdate(tuneUpdate, { args: [{ by: 'li', preCopyKiBps: 10_000 }] });
    await until(handle, 'the tune recorded', (status) => status.decisions.length === 1);
    hold.release();
    await untilGate(handle, 'open-downtime');
    const before = world.limits.length;
    await harness.environment.sleep('25 seconds');
    const later = world.limits.slice(before);
    await handle.terminate();

    // old1 copies two at a time, old2 two to new2 and one onto itself.
    const shares = Object.fromEntries(world.limits.slice(0, before).map((limit) => [limit.transfer, limit.limitKiBps]));
    expect(shares['host-old2-registry']).toBe(13_333);
    expect(later.find((limit) => limit.transfer === 'kafka-0')?.limitKiBps).toBe(5_000);
    expect(later.find((limit) => limit.transfer === 'kafka-1')?.limitKiBps).toBe(3_333);
    expect(world.tunes.map((tune) => tune.limitKiBps)).toEqual(expect.arrayContaining([expect.any(Number) as number]));
    expect(world.mostCopies).toBeLessThanOrEqual(5);
  });
});
