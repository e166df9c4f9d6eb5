import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ComponentKind, GateName } from '../../src/plan/plan.ts';
import type { PhaseName } from '../../src/workflows/messages.ts';
import { abortSignal, abortUpdate, rejectSignal, resumeSignal } from '../../src/workflows/messages.ts';
import { uninstallsAtOnce } from '../../src/workflows/policies.ts';
import type { Handle, Harness } from './harness.ts';
import { approve, approveAll, startHarness, statusOf, until, untilBlocked, untilGate } from './harness.ts';
import { planOf, stackedPlanOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('development');
});
afterAll(() => harness.stop());

type Held = Parameters<World['hold']>[0];

interface Row {
  phase: PhaseName;
  activity: Held;
  /** Calls of the activity that pass before the one that is held. */
  passes?: number;
  gates: GateName[];
}

const rows: Row[] = [
  { phase: 'preflight', activity: 'preflight', gates: [] },
  { phase: 'prewarm', activity: 'prewarmHost', gates: [] },
  { phase: 'backup', activity: 'backupSecrets', gates: [] },
  { phase: 'replicate', activity: 'copyOnce', gates: [] },
  { phase: 'stop-apps', activity: 'recordApplications', gates: ['open-downtime'] },
  { phase: 'stop-apps', activity: 'stopApplications', gates: ['open-downtime'] },
  { phase: 'add-nodes', activity: 'applyConfig', gates: ['open-downtime'] },
  { phase: 'edit-secrets', activity: 'editSecrets', gates: ['open-downtime'] },
  { phase: 'uninstall', activity: 'uninstallComponent', gates: ['open-downtime'] },
  { phase: 'stop-host-services', activity: 'stopHostServices', gates: ['open-downtime'] },
  { phase: 'final-copy', activity: 'copyOnce', passes: 7, gates: ['open-downtime'] },
  { phase: 'start-host-services', activity: 'startHostServices', gates: ['open-downtime'] },
  { phase: 'reinstall', activity: 'applyConfig', passes: 1, gates: ['open-downtime'] },
  { phase: 'remove-nodes', activity: 'prepareConfig', passes: 2, gates: ['open-downtime', 'remove-nodes'] },
];

describe.concurrent('abort in every phase', () => {
  const cases = rows.flatMap((row) => (['before', 'after'] as const).map((when) => ({ ...row, when })));

  it.each(cases)('in $phase, $when $activity acts, brings everything back', async ({ when, ...row }) => {
    const cluster = `abort-${row.phase}-${row.activity.toLowerCase()}-${when}`;
    const world = createWorld(planOf(cluster));
    const initial = world.snapshot();
    const hold = world.hold(row.activity, when, row.passes ?? 0);

    const handle = await harness.start(world.plan);
    await approveAll(handle, row.gates);
    await hold.reached;
    await handle.signal(abortSignal, { by: 'li', reason: 'not tonight' });
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(status.state).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(initial);
    expect(world.notified.at(-1)).toBe('rolled-back');
    expect(status.phases.filter((phase) => ['running', 'undoing'].includes(phase.state))).toEqual([]);
    expect(status.downtime.endedAt === undefined).toBe(status.downtime.startedAt === undefined);
  });

  it.each([
    { activity: 'checkApply', world: () => createWorld(planOf('abort-last-check')) },
    { activity: 'moveControl', world: () => createWorld(stackedPlanOf('abort-last-move')) },
  ] as const)(
    'during $activity, the last step before nodes go, undoes everything though the step ends well',
    async (row) => {
      const world = row.world();
      const initial = world.snapshot();
      const hold = world.hold(row.activity, 'after', 0, true);

      const handle = await harness.start(world.plan);
      await approveAll(handle, ['open-downtime', 'remove-nodes']);
      await hold.reached;
      await handle.signal(abortSignal, { by: 'li', reason: 'not tonight' });
      await until(handle, 'rolling back', (status) => status.state === 'rolling-back');
      hold.release();
      const { outcome, status } = await handle.result();

      expect(outcome).toBe('rolled-back');
      expect(status.pointOfNoReturn).toBe(false);
      expect(world.snapshot()).toEqual(initial);
      expect(world.violations).toEqual([]);
    },
  );

  it.each<GateName>(['open-downtime', 'remove-nodes'])(
    'rejecting %s before nodes are removed does the same',
    async (gate) => {
      const world = createWorld(planOf(`reject-${gate}`));
      const initial = world.snapshot();

      const handle = await harness.start(world.plan);
      if (gate === 'remove-nodes') {
        await approve(handle, 'open-downtime');
      }
      await untilGate(handle, gate);
      await handle.signal(rejectSignal, { gate, by: 'li', reason: 'too risky' });
      const { outcome, status } = await handle.result();

      expect(outcome).toBe('rolled-back');
      // What a phase took is known after it was undone as well: a rehearsal teaches that.
      const undone = status.phases.filter((phase) => phase.state === 'undone' && phase.doneAt !== undefined);
      expect(undone.map(({ name }) => name)).toEqual(
        gate === 'remove-nodes' ? expect.arrayContaining(['stop-apps', 'uninstall', 'reinstall']) : expect.any(Array),
      );
      for (const { startedAt, doneAt, endedAt } of undone) {
        expect([startedAt, doneAt, endedAt]).toEqual([startedAt, doneAt, endedAt].toSorted());
      }
      expect(world.violations).toEqual([]);
      expect(world.snapshot()).toEqual(initial);
      expect(status.gates.find((candidate) => candidate.name === gate)?.state).toBe('rejected');
    },
  );

  it('touches no component on its way back that the uninstall had not begun with', async () => {
    const kinds: ComponentKind[] = ['redis', 'mariadb', 'mongodb', 'opensearch', 'nsq', 'prometheus', 'grafana'];
    const world = createWorld(planOf('abort-uninstall-queue', {}, kinds));
    const initial = world.snapshot();
    const holds = Array.from({ length: uninstallsAtOnce }, () => world.hold('uninstallComponent'));
    const kindsOf = (): string[] =>
      world.inputs.flatMap(({ name, input }) =>
        name === 'uninstallComponent' ? [(input as { component: { kind: string } }).component.kind] : [],
      );

    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime']);
    await Promise.all(holds.map(({ reached }) => reached));
    const begun = kindsOf();
    await handle.signal(abortSignal, { by: 'li', reason: 'not tonight' });
    const { outcome } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(kindsOf().filter((kind) => !begun.includes(kind))).toEqual([]);
    expect(world.snapshot()).toEqual(initial);
    expect(world.violations).toEqual([]);
  });

  it('cancelling the workflow itself is an abort', async () => {
    const world = createWorld(planOf('cancelled'));
    const initial = world.snapshot();
    const hold = world.hold('uninstallComponent', 'after');

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await hold.reached;
    await handle.cancel();
    const { outcome, status } = await handle.result();

    expect(outcome).toBe('rolled-back');
    expect(world.snapshot()).toEqual(initial);
    expect(status.decisions.at(-1)).toMatchObject({
      decision: 'abort',
      by: 'temporal cancel',
      via: 'cancel',
      counted: true,
    });
  });

  it('a failing undo parks and is tried again after resume; a second abort does not count', async () => {
    const world = createWorld(planOf('undo-fails'));
    const initial = world.snapshot();
    const hold = world.hold('editSecrets', 'after');
    world.fail('startApplications', 'NeedsHuman', {
      cause: 'web does not come up: image missing',
      untouched: 'all other workloads run',
      next: 'load the image',
    });

    const handle = await harness.start(world.plan);
    await approve(handle, 'open-downtime');
    await hold.reached;
    await handle.signal(abortSignal, { by: 'li', reason: 'not tonight' });
    const status = await untilBlocked(handle);
    const again = handle.executeUpdate(abortUpdate, { args: [{ by: 'zhao', reason: 'me too' }] });
    await expect(again).rejects.toMatchObject({
      cause: { message: expect.stringContaining('aborted already') as string },
    });
    await handle.signal(resumeSignal, { by: 'li' });
    const result = await handle.result();

    expect(status.blocked).toMatchObject({
      phase: 'stop-apps',
      cause: 'web does not come up: image missing',
      heals: 'human',
    });
    expect(result.outcome).toBe('rolled-back');
    expect(world.snapshot()).toEqual(initial);
  });
});

describe.concurrent('abort when going back has a price', () => {
  const late = planOf('template').gates;

  async function toRunningApplications(cluster: string): Promise<{ world: World; handle: Handle }> {
    const world = createWorld(planOf(cluster, { gates: { ...late, removeNodesAfter: 'start-apps' } }));
    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime', 'close-downtime']);
    await untilGate(handle, 'remove-nodes');
    return { world, handle };
  }

  it('is refused once applications were started on the new nodes, unless the decision accepts to lose their writes', async () => {
    const { world, handle } = await toRunningApplications('losing');
    const initial = createWorld(planOf('losing-reference')).snapshot();

    const refused = handle.executeUpdate(abortUpdate, { args: [{ by: 'li', reason: 'slow' }] });
    await expect(refused).rejects.toMatchObject({
      cause: { message: expect.stringContaining('acceptLosingWrites') as string },
    });
    await handle.signal(abortSignal, { by: 'li', reason: 'slow' });
    const ignored = await until(handle, 'a recorded signal', (status) => status.decisions.some((d) => !d.counted));
    await handle.executeUpdate(abortUpdate, { args: [{ by: 'li', reason: 'slow', acceptLosingWrites: true }] });
    const { outcome } = await handle.result();

    expect(ignored.state).toBe('awaiting-gate');
    expect(ignored.decisions.filter((decision) => !decision.counted)).toMatchObject([{ decision: 'abort', by: 'li' }]);
    expect(outcome).toBe('rolled-back');
    expect(world.violations).toEqual([]);
    expect(world.snapshot()).toEqual(initial);
  });

  it('a rejected removal after that loses nothing: it is sent back and asked again', async () => {
    const { world, handle } = await toRunningApplications('sent-back');

    await handle.signal(rejectSignal, { gate: 'remove-nodes', by: 'li', reason: 'let it run a day' });
    const sentBack = await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'remove-nodes');
    const { outcome } = await handle.result();

    expect(sentBack.blocked?.cause).toContain('let it run a day');
    expect(sentBack.state).toBe('blocked');
    expect(outcome).toBe('migrated');
    expect(world.snapshot().nodes).toEqual(['new1', 'new2']);
    expect(world.violations).toEqual([]);
  });

  it('past the point of no return it parks with an explanation, and resume goes on', async () => {
    const world = createWorld(planOf('no-return'));
    const hold = world.hold('applyConfig', 'after', 2);

    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime', 'remove-nodes']);
    await hold.reached;
    const answer = await handle.executeUpdate(abortUpdate, { args: [{ by: 'li', reason: 'wait' }] });
    const parked = await statusOf(handle);
    hold.release();
    const calls = await until(handle, 'stand still', (status) => status.state === 'blocked').then(
      () => world.calls.length,
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    const callsLater = world.calls.length;
    await handle.signal(resumeSignal, { by: 'li' });
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(answer).toContain('point of no return');
    expect(parked).toMatchObject({ state: 'blocked', pointOfNoReturn: true, blocked: { phase: 'remove-nodes' } });
    expect(parked.blocked?.cause).toContain('no way back');
    expect(callsLater).toBe(calls);
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
  });

  async function toTheEnd(cluster: string): Promise<{ world: World; handle: Handle }> {
    const { nodes } = planOf('template');
    const world = createWorld(planOf(cluster, { nodes: { ...nodes, remove: [] } }));
    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime', 'close-downtime']);
    return { world, handle };
  }

  it('is refused while the migration finishes', async () => {
    const { world, handle } = await toTheEnd('finishing');
    const hold = world.hold('dropPrepared');

    await hold.reached;
    const refused = handle.executeUpdate(abortUpdate, {
      args: [{ by: 'li', reason: 'slow', acceptLosingWrites: true }],
    });
    await expect(refused).rejects.toMatchObject({
      cause: { message: expect.stringContaining('about to end') as string },
    });
    await handle.cancel();
    const { decisions, state } = await until(handle, 'a recorded abort', (status) =>
      status.decisions.some((decision) => decision.decision === 'abort'),
    );
    hold.release();
    const { outcome } = await handle.result();

    expect(state).toBe('running');
    expect(decisions.at(-1)).toMatchObject({ decision: 'abort', counted: false });
    expect(outcome).toBe('migrated');
    expect(world.holder).toBeUndefined();
    expect(world.violations).toEqual([]);
  });

  it('is not offered where the end is blocked', async () => {
    const { world, handle } = await toTheEnd('finish-blocked');
    world.fail('letClusterGo', 'NeedsHuman', {
      cause: 'no right to delete the lease',
      untouched: 'everything else',
      next: 'give the worker the right',
    });

    const { blocked } = await untilBlocked(handle);
    const refused = handle.executeUpdate(abortUpdate, {
      args: [{ by: 'li', reason: 'slow', acceptLosingWrites: true }],
    });
    await expect(refused).rejects.toMatchObject({
      cause: { message: expect.stringContaining('about to end') as string },
    });
    await handle.signal(resumeSignal, { by: 'li' });
    const { outcome } = await handle.result();

    expect(blocked).toMatchObject({ cause: 'no right to delete the lease', choices: ['resume'] });
    expect(outcome).toBe('migrated');
  });

  it('rejecting the result parks it; resume checks anew and asks again', async () => {
    const world = createWorld(planOf('result-rejected'));

    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime', 'remove-nodes']);
    await untilGate(handle, 'close-downtime');
    const checks = world.calls.filter((call) => call === 'takeProbes').length;
    await handle.signal(rejectSignal, { gate: 'close-downtime', by: 'li', reason: 'kafka looks odd' });
    const sentBack = await untilBlocked(handle);
    await handle.signal(resumeSignal, { by: 'li' });
    await untilGate(handle, 'close-downtime');
    const checksAfter = world.calls.filter((call) => call === 'takeProbes').length;
    await approve(handle, 'close-downtime');
    const { outcome } = await handle.result();

    expect(sentBack.blocked).toMatchObject({ phase: 'start-apps' });
    expect(sentBack.blocked?.cause).toContain('kafka looks odd');
    expect(world.snapshot().applications).toBe('running');
    expect([checks, checksAfter]).toEqual([3, 4]);
    expect(outcome).toBe('migrated');
  });
});
