import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GateName } from '../../src/plan/plan.ts';
import type { MigrationStatus, PhaseName } from '../../src/workflows/messages.ts';
import { abortSignal, approveUpdate, rejectSignal, resumeSignal } from '../../src/workflows/messages.ts';
import type { Harness } from './harness.ts';
import { approve, approveAll, startHarness, statusOf, until, untilBlocked, untilGate } from './harness.ts';
import { planOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

const detail = { cause: 'the disk of new1 is full', untouched: 'nothing was written there', next: 'make room on new1' };

interface Row {
  phase: PhaseName;
  activity: Parameters<World['fail']>[0];
  gates: GateName[];
}

const rows: Row[] = [
  { phase: 'preflight', activity: 'preflight', gates: [] },
  { phase: 'prewarm', activity: 'prewarmHost', gates: [] },
  { phase: 'backup', activity: 'backupSecrets', gates: [] },
  { phase: 'replicate', activity: 'copyOnce', gates: [] },
  { phase: 'stop-apps', activity: 'stopApplications', gates: ['open-downtime'] },
  { phase: 'add-nodes', activity: 'applyConfig', gates: ['open-downtime'] },
  { phase: 'edit-secrets', activity: 'editSecrets', gates: ['open-downtime'] },
  { phase: 'uninstall', activity: 'uninstallComponent', gates: ['open-downtime'] },
  { phase: 'stop-host-services', activity: 'stopHostServices', gates: ['open-downtime'] },
  { phase: 'start-host-services', activity: 'startHostServices', gates: ['open-downtime'] },
  { phase: 'reinstall', activity: 'provePlacement', gates: ['open-downtime'] },
  { phase: 'start-apps', activity: 'startApplications', gates: ['open-downtime', 'remove-nodes', 'close-downtime'] },
  { phase: 'verify', activity: 'clearBreadcrumbs', gates: ['open-downtime', 'remove-nodes', 'close-downtime'] },
];
const all: readonly GateName[] = ['open-downtime', 'remove-nodes', 'close-downtime'];

describe.concurrent('a failure that retries cannot heal', () => {
  it.each(rows)('parks $phase, says why, and goes on after resume', async ({ phase, activity, gates }) => {
    const world = createWorld(planOf(`blocked-${phase}`));
    world.fail(activity, 'NeedsHuman', detail);

    const handle = await harness.start(world.plan);
    await approveAll(handle, gates);
    const status = await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, all.slice(gates.length));
    const { outcome, status: last } = await handle.result();

    expect(status.state).toBe('blocked');
    expect(status.blocked).toMatchObject({ phase, ...detail, heals: 'human' });
    expect(status.phases.find((candidate) => candidate.name === phase)?.state).toBe('blocked');
    expect(world.notified).toContain('blocked');
    expect(outcome).toBe('migrated');
    expect(last.blocked).toBeUndefined();
    expect(world.violations).toEqual([]);
  });

  it.each(rows.slice(0, 11))(
    'lets an abort from blocked $phase bring everything back',
    async ({ phase, activity, gates }) => {
      const world = createWorld(planOf(`stuck-${phase}`));
      const initial = world.snapshot();
      world.fail(activity, 'Permanent', detail);

      const handle = await harness.start(world.plan);
      await approveAll(handle, gates);
      const status = await untilBlocked(handle);
      await handle.signal(abortSignal, { by: 'li', reason: 'not fixable tonight' });
      const { outcome } = await handle.result();

      expect(status.blocked?.heals).toBe('never');
      expect(outcome).toBe('rolled-back');
      expect(world.snapshot()).toEqual(initial);
      expect(world.violations).toEqual([]);
    },
  );

  it('does not stop the other components of the window', async () => {
    const world = createWorld(planOf('one-stuck'));
    world.fail('uninstallComponent', 'NeedsHuman', detail);

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilBlocked(handle);
    await expect
      .poll(async () => (await statusOf(handle)).transfers.filter((transfer) => transfer.state === 'verified').length, {
        timeout: 20_000,
      })
      .toBeGreaterThanOrEqual(3);
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
  });

  it('is told beside another one that came at the same time, and both go on with one resume', async () => {
    const world = createWorld(planOf('two-stuck'));
    const second = { cause: 'a finalizer holds a volume', untouched: 'the volume', next: 'remove the finalizer' };
    world.fail('uninstallComponent', 'NeedsHuman', detail);
    world.fail('uninstallComponent', 'NeedsHuman', second);

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const { blocked, alsoBlocked } = await until(handle, 'two blocks', (status) => status.alsoBlocked !== undefined);
    const { currentDetails } = await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata');
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome, status } = await handle.result();

    const byCause = [blocked, ...(alsoBlocked ?? [])].toSorted((a, b) => (a!.cause < b!.cause ? -1 : 1));
    expect(byCause).toMatchObject([
      { phase: 'uninstall', ...second },
      { phase: 'uninstall', ...detail },
    ]);
    for (const { cause, next } of [detail, second]) {
      expect(currentDetails).toContain(cause);
      expect(currentDetails).toContain(next);
    }
    expect(outcome).toBe('migrated');
    expect(status).not.toHaveProperty('alsoBlocked');
    expect(world.violations).toEqual([]);
  });

  it('keeps the first gate shut while a copy is blocked', async () => {
    const plan = planOf('gate-shut', { limits: { refreshSeconds: 10 } });
    const world = createWorld(plan);

    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    world.fail('copyOnce', 'NeedsHuman', detail);
    await untilBlocked(handle);
    const refused = handle.executeUpdate(approveUpdate, { args: [{ gate: 'open-downtime', by: 'li', reason: 'go' }] });
    await expect(refused).rejects.toMatchObject({
      cause: { message: expect.stringContaining('phase replicate is blocked') as string },
    });
    await handle.signal(resumeSignal, { by: 'li' });
    await until(handle, 'the gate again', ({ state }) => state === 'awaiting-gate');
    await approveAll(handle);
    const { outcome } = await handle.result();

    expect(outcome).toBe('migrated');
  });
});

describe('a result that lost data', () => {
  it('is found before the old nodes leave, and the way back is open', async () => {
    const world = createWorld(planOf('lost-data'));
    const initial = world.snapshot();
    world.probesToBreak.add('kafka');

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const { blocked, pointOfNoReturn } = await untilBlocked(handle);
    await handle.signal(abortSignal, { by: 'li', reason: 'kafka is empty' });
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'remove-nodes', choices: ['resume', 'abort'] });
    expect(blocked?.cause).toContain('kafka-0 keys was 42 and is 0');
    expect(pointOfNoReturn).toBe(false);
    expect(outcome).toBe('rolled-back');
    expect(world.snapshot()).toEqual(initial);
    expect(world.violations).toEqual([]);
  });

  it('goes on when it is whole again', async () => {
    const world = createWorld(planOf('lost-and-found'));
    world.probesToBreak.add('kafka');

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilBlocked(handle);
    world.probesToBreak.clear();
    await handle.signal(resumeSignal, { by: 'li' });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('migrated');
    expect(status.gates.map(({ unproved }) => unproved)).toEqual([undefined, undefined, undefined]);
  });

  it('is found before the applications start where the old nodes leave after them', async () => {
    const gates = { ...planOf('template').gates, removeNodesAfter: 'start-apps' as const };
    const world = createWorld(planOf('lost-data-late', { gates }));
    world.probesToBreak.add('kafka');

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    const { blocked } = await untilBlocked(handle);
    await handle.terminate();

    expect(blocked).toMatchObject({ phase: 'start-apps', choices: ['resume', 'abort'] });
  });

  it('is for people to accept, and not in the way for ever, once nobody can go back', async () => {
    const world = createWorld(planOf('differs-late'));
    const lost = ['kafka-0 keys was 42 and is 0', 'kafka-1 keys was 42 and is 0', 'redis-0 keys does not answer'];

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await untilGate(handle, 'remove-nodes');
    world.probesToBreak.add('kafka');
    world.probesToSilence.add('redis');
    await approve(handle, 'remove-nodes');
    const asked = await untilGate(handle, 'close-downtime');
    const { currentDetails } = await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata');
    await handle.signal(rejectSignal, { gate: 'close-downtime', by: 'li', reason: 'kafka looks odd' });
    await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome, status } = await handle.result();

    const unprovedAt = (at: MigrationStatus, gate: GateName): string[] | undefined =>
      at.gates.find(({ name }) => name === gate)?.unproved?.toSorted();
    expect(unprovedAt(asked, 'close-downtime')).toEqual(lost);
    expect(unprovedAt(status, 'close-downtime')).toEqual(lost);
    expect(unprovedAt(status, 'remove-nodes')).toBeUndefined();
    expect(asked.phases.find(({ name }) => name === 'start-apps')?.detail).toContain(lost[0]);
    expect(currentDetails).toMatch(/Not proved, and accepted with the approval: .*kafka-0 keys was 42 and is 0/);
    const told = world.inputs
      .filter(({ name }) => name === 'notify')
      .map(({ input }) => (input as { text: string }).text);
    expect(told).toContainEqual(expect.stringMatching(/^Gate close-downtime .*redis-0 keys does not answer/));
    expect(outcome).toBe('migrated');
    expect(status.phases.find(({ name }) => name === 'verify')?.detail).toContain('redis-0 keys does not answer');
    expect(world.violations).toEqual([]);
  });

  it('has to answer again once applications run, unless its silence was accepted', async () => {
    const world = createWorld(planOf('silent-late'));

    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime', 'remove-nodes']);
    await untilGate(handle, 'close-downtime');
    world.probesToSilence.add('redis');
    await approve(handle, 'close-downtime');
    const { blocked } = await untilBlocked(handle);
    await handle.terminate();

    expect(blocked).toMatchObject({ phase: 'verify' });
    expect(blocked?.cause).toContain('redis-0 keys does not answer');
  });
});

describe('the apply that fails by itself', () => {
  it('is tried again by the retry policy for Transient failures alone, as often as the plan says', async () => {
    const limits = { applyAttempts: 3, applyBackoffSeconds: 1 };
    const flake = { cause: 'kubesuite failed', untouched: 'the old nodes', next: 'wait' };
    const heals = createWorld(planOf('flaky', { limits }));
    const stays = createWorld(planOf('flaky-for-ever', { limits }));
    heals.fail('applyConfig', 'Transient', flake, 2);
    stays.fail('applyConfig', 'Transient', flake, 3);

    const one = await harness.start(heals.plan);
    const other = await harness.start(stays.plan);
    await approveAll(one);
    const { status } = await one.result();
    await approve(other, 'open-downtime');
    const blocked = await untilBlocked(other);
    await other.terminate();

    expect(status.phases.find((phase) => phase.name === 'add-nodes')?.detail).toContain('try 3');
    expect(blocked.blocked).toMatchObject({ phase: 'add-nodes', cause: 'kubesuite failed' });
    expect(stays.calls.filter((call) => call === 'applyConfig').length).toBe(3);
  });

  it('of the gate of the removal leaves the way back open, and what resume does again starts from the recorded configuration', async () => {
    const plan = planOf('blocked-gate');
    const world = createWorld(plan);
    world.fail('checkApply', 'NeedsHuman', detail);

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await approve(handle, 'remove-nodes');
    const blocked = await untilBlocked(handle);
    const prepared = world.calls.filter((call) => call === 'prepareConfig').length;
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ phase: 'remove-nodes', pointOfNoReturn: false });
    expect(world.calls.filter((call) => call === 'prepareConfig')).toHaveLength(prepared + 1);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
  });

  it('runs helm where the platform has it, saves with the key of the plan, and leaves no prepared document', async () => {
    const world = createWorld(planOf('control', { backup: { keyFile: '/etc/ferry/key' } }));

    const handle = await harness.start(world.plan);
    await approveAll(handle);
    await handle.result();

    const inputs = (name: string): unknown[] =>
      world.inputs.filter((call) => call.name === name).map(({ input }) => input);
    expect(inputs('uninstallComponent').length).toBeGreaterThan(0);
    for (const input of inputs('uninstallComponent')) expect(input).toMatchObject({ control: { name: 'old1' } });
    expect(inputs('backupSecrets')).toMatchObject([{ backup: { keyFile: '/etc/ferry/key' } }]);
    expect(inputs('dropPrepared')).toHaveLength(1);
  });
});
