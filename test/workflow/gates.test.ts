import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GateName } from '../../src/plan/plan.ts';
import type { ApproveInput } from '../../src/workflows/messages.ts';
import { approveSignal, approveUpdate, pauseUpdate, rejectUpdate, resumeUpdate } from '../../src/workflows/messages.ts';
import type { Handle, Harness } from './harness.ts';
import { approveAll, startHarness, statusOf, until, untilGate } from './harness.ts';
import { author, planOf } from './plans.ts';
import type { World } from './world.ts';
import { createWorld } from './world.ts';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness('time-skipping');
});
afterAll(() => harness.stop());

const gates = planOf('template').gates;

/** A migration that stands at its first gate: two of three named people, of whom one wrote the plan. */
async function atGate(cluster: string): Promise<{ world: World; handle: Handle }> {
  const world = createWorld(
    planOf(cluster, {
      // No freshening meanwhile: a test counts the events of history.
      limits: { refreshSeconds: 86_400 },
      gates: {
        ...gates,
        'open-downtime': { approvers: ['li', 'zhao', 'sun', author], required: 2, selfApproval: false },
      },
    }),
  );
  const handle = await harness.start(world.plan);
  await untilGate(handle, 'open-downtime');
  return { world, handle };
}

/** Events that people's decisions left; the copies that are kept fresh meanwhile leave events of their own. */
async function tracesOf(handle: Handle): Promise<number> {
  const events = (await handle.fetchHistory()).events ?? [];
  return events.filter((event) =>
    Object.entries(event).some(
      ([name, attributes]) => /^workflowExecution(Update|Signaled)/.test(name) && attributes !== null,
    ),
  ).length;
}

async function refusalOf(update: Promise<unknown>): Promise<string> {
  try {
    await update;
  } catch (error) {
    return String((error as { cause?: { message?: string } }).cause?.message);
  }
  throw new Error('the update was accepted');
}

describe('a gate', () => {
  it('opens when enough different approvers have said yes, and records who, when and why', async () => {
    const { handle } = await atGate('n-of-m');

    const first = await handle.executeUpdate(approveUpdate, {
      args: [{ gate: 'open-downtime', by: 'li', reason: 'window is announced' }],
    });
    const between = await statusOf(handle);
    const second = await handle.executeUpdate(approveUpdate, {
      args: [{ gate: 'open-downtime', by: 'sun', reason: 'on call is ready' }],
    });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { status } = await handle.result();

    expect(first).toBe('approval 1 of 2 for gate open-downtime');
    expect(second).toBe('gate open-downtime is approved');
    expect(between.awaitingGate).toBe('open-downtime');
    expect(status.gates[0]).toMatchObject({
      name: 'open-downtime',
      state: 'approved',
      approvals: [
        { by: 'li', reason: 'window is announced' },
        { by: 'sun', reason: 'on call is ready' },
      ],
    });
    expect(status.decisions.slice(0, 2)).toMatchObject([
      { decision: 'approve', by: 'li', via: 'update', counted: true, planDigest: status.planDigest },
      { decision: 'approve', by: 'sun', via: 'update', counted: true },
    ]);
    expect(status.decisions[0]?.projectedDowntimeSeconds).toBeGreaterThan(0);
  });

  it('refuses by a validator what does not count, without a trace in history', async () => {
    const { handle } = await atGate('refusals');
    const ask = (input: Partial<ApproveInput>): Promise<string> =>
      refusalOf(
        handle.executeUpdate(approveUpdate, {
          args: [{ gate: 'open-downtime', by: 'li', reason: 'because', ...input }],
        }),
      );
    const before = await tracesOf(handle);

    const answers = {
      wrongGate: await ask({ gate: 'remove-nodes' }),
      noGate: await ask({ gate: 'close-everything' as GateName }),
      staleDigest: await ask({ planDigest: `sha256:${'0'.repeat(64)}` }),
      stranger: await ask({ by: 'mallory' }),
      author: await ask({ by: author }),
      nobody: await ask({ by: ' ' }),
      noReason: await ask({ reason: '' }),
    };
    const resume = await refusalOf(handle.executeUpdate(resumeUpdate, { args: [{ by: 'li' }] }));
    const reject = await refusalOf(
      handle.executeUpdate(rejectUpdate, { args: [{ gate: 'open-downtime', by: 'mallory', reason: 'no' }] }),
    );
    const after = await tracesOf(handle);
    const { decisions } = await statusOf(handle);
    await handle.executeUpdate(approveUpdate, { args: [{ gate: 'open-downtime', by: 'li', reason: 'because' }] });
    const accepted = await tracesOf(handle);
    await handle.terminate();

    expect(answers.wrongGate).toContain(
      'gate remove-nodes is not open yet; the gate that awaits a decision is open-downtime',
    );
    expect(answers.noGate).toContain('malformed approve: gate');
    expect(answers.staleDigest).toContain("is not the running plan's");
    expect(answers.stranger).toContain('mallory is not an approver');
    expect(answers.author).toContain('wrote the plan');
    expect(answers.nobody).toContain('must name who decides');
    expect(answers.noReason).toContain('must say why');
    expect(resume).toContain('nothing is paused');
    expect(reject).toContain('mallory is not an approver');
    expect(after).toBe(before);
    expect(decisions).toEqual([]);
    expect(accepted).toBeGreaterThan(after);
  });

  it('records signals that do not count, with the reason, and goes on waiting', async () => {
    const { handle } = await atGate('ignored-signals');

    await handle.signal(approveSignal, { gate: 'open-downtime', by: 'mallory', reason: 'let me in' });
    await handle.signal('approve', 'nonsense');
    await handle.signal('approve');
    await handle.signal(approveSignal, { gate: 'open-downtime', by: 'li', reason: 'yes' });
    await handle.signal(approveSignal, { gate: 'open-downtime', by: 'li', reason: 'yes, yes' });
    const status = await until(handle, 'five decisions', (now) => now.decisions.length === 5);
    await handle.terminate();

    expect(status.awaitingGate).toBe('open-downtime');
    expect(status.decisions.map(({ by, counted, why }) => [by, counted, why ?? ''])).toEqual([
      ['mallory', false, 'mallory is not an approver of gate open-downtime: li, zhao, sun, wang'],
      ['(nobody)', false, expect.stringContaining('malformed approve') as string],
      ['(nobody)', false, expect.stringContaining('malformed approve') as string],
      ['li', true, ''],
      ['li', false, 'li has approved gate open-downtime already: 2 different approvers are needed'],
    ]);
  });

  it('lets the author approve where the plan says so', async () => {
    const self = { approvers: [], required: 1, selfApproval: true };
    const world = createWorld(planOf('self-approval', { gates: { ...gates, 'open-downtime': self } }));
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');

    const answer = await handle.executeUpdate(approveUpdate, {
      args: [{ gate: 'open-downtime', by: author, reason: 'mine', planDigest: world.plan.digest }],
    });
    await handle.terminate();

    expect(answer).toBe('gate open-downtime is approved');
  });
});

describe('what people see at a gate', () => {
  it('current details hold the ladder and the exact command; search attributes name cluster, phase and gate', async () => {
    const { world, handle } = await atGate('visible');

    const metadata = await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata');
    const { typedSearchAttributes } = await handle.describe();
    await handle.terminate();

    expect(metadata.currentDetails).toContain('| 8 | stop-apps | pending |');
    expect(metadata.currentDetails).toContain('| 7 | replicate | parked |');
    expect(metadata.currentDetails).toContain(
      `temporal workflow signal --workflow-id migrate-visible --name approve --input '{"gate":"open-downtime","by":"li","reason":"WHY","planDigest":"${world.plan.digest}"}'`,
    );
    expect(typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value])).toEqual(
      expect.arrayContaining([
        ['FerryCluster', 'visible'],
        ['FerryPhase', 'replicate'],
        ['FerryAwaitingGate', 'open-downtime'],
      ]),
    );
  });

  it('clears the gate and shows the start of the downtime once it is approved', async () => {
    const world = createWorld(planOf('attributes'));
    const hold = world.hold('applyConfig');
    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime']);
    await hold.reached;

    const { typedSearchAttributes } = await handle.describe();
    const status = await statusOf(handle);
    hold.release();
    await handle.terminate();

    const values = new Map(typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value]));
    expect(values.has('FerryAwaitingGate')).toBe(false);
    expect(values.get('FerryPhase')).toBe('add-nodes');
    expect(values.get('FerryDowntimeStart')).toEqual(new Date(status.downtime.startedAt ?? ''));
  });
});

describe('pause', () => {
  it('takes effect before the next step and ends with resume', async () => {
    const world = createWorld(planOf('paused'));
    const hold = world.hold('applyConfig');
    const handle = await harness.start(world.plan);
    await approveAll(handle, ['open-downtime']);
    await hold.reached;

    await handle.executeUpdate(pauseUpdate, { args: [{ by: 'li', reason: 'phone call' }] });
    hold.release();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const paused = await statusOf(handle);
    const callsWhilePaused = world.calls.slice(world.calls.indexOf('applyConfig') + 1);
    const again = await refusalOf(handle.executeUpdate(pauseUpdate, { args: [{ by: 'li', reason: 'again' }] }));
    await handle.executeUpdate(resumeUpdate, { args: [{ by: 'li' }] });
    await approveAll(handle, ['remove-nodes', 'close-downtime']);
    const { outcome } = await handle.result();

    expect(paused).toMatchObject({ state: 'paused', phase: 'add-nodes', paused: { by: 'li', reason: 'phone call' } });
    expect(callsWhilePaused).toEqual([]);
    expect(again).toBe('the migration is paused already');
    expect(outcome).toBe('migrated');
    expect(world.violations).toEqual([]);
  });

  it('reaches copies that run, and ends for them as well', async () => {
    const world = createWorld(planOf('paused-copies'));
    const hold = world.hold('copyOnce', 'after');
    const handle = await harness.start(world.plan);
    await hold.reached;

    await handle.executeUpdate(pauseUpdate, { args: [{ by: 'li', reason: 'backup runs' }] });
    const signals = await until(handle, 'paused', (status) => status.state === 'paused').then(async () => {
      await new Promise((resolve) => setTimeout(resolve, 300));
      const history = await handle.fetchHistory();
      return (history.events ?? []).filter(
        (event) => event.signalExternalWorkflowExecutionInitiatedEventAttributes?.signalName === 'pause',
      ).length;
    });
    hold.release();
    await handle.executeUpdate(resumeUpdate, { args: [{ by: 'li' }] });
    await untilGate(handle, 'open-downtime');
    await handle.terminate();

    expect(signals).toBeGreaterThan(0);
  });
});

describe('what nothing can prove', () => {
  it('is put before people at the gates around the window, and stands in what was proved', async () => {
    const world = createWorld(planOf('unproved'));
    world.probesUntaken.add('mariadb');
    world.probesUntaken.add('redis');
    const handle = await harness.start(world.plan);
    await untilGate(handle, 'open-downtime');
    const { currentDetails } = await handle.query<{ currentDetails: string }>('__temporal_workflow_metadata');
    await approveAll(handle);
    const { outcome, status } = await handle.result();
    const accepted = Object.fromEntries(status.gates.map(({ name, unproved }) => [name, unproved]));

    expect(outcome).toBe('migrated');
    expect(currentDetails).toMatch(/accepted with the approval: (mariadb|redis) does not answer; /);
    expect(accepted).toEqual({
      'open-downtime': ['mariadb does not answer', 'redis does not answer'],
      'remove-nodes': undefined,
      // As it really was at rest, replica by replica.
      'close-downtime': [
        'redis-0 did not answer the probe keys: HTTP 404',
        'mariadb-0 did not answer the probe keys: HTTP 404',
        'mariadb-1 did not answer the probe keys: HTTP 404',
      ],
    });
    expect(status.phases.find(({ name }) => name === 'verify')?.detail).toContain(
      '3 could not be taken before the move, and prove nothing',
    );
  });

  it('is not spoken of when all could be proved', async () => {
    const world = createWorld(planOf('proved'));
    const handle = await harness.start(world.plan);
    await approveAll(handle);
    const { status } = await handle.result();

    expect(status.gates.map(({ unproved }) => unproved)).toEqual([undefined, undefined, undefined]);
    expect(status.phases.find(({ name }) => name === 'verify')?.detail).not.toContain('could not be taken');
  });
});
