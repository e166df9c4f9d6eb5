import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GateName, Plan } from '../../../src/plan/plan.ts';
import { gateNames } from '../../../src/plan/plan.ts';
import type { Decision, DecisionKind, Verdict } from '../../../src/workflows/gates.ts';
import {
  applyDecision,
  currentPhase,
  decisionKinds,
  readDecision,
  recordOf,
  refusal,
} from '../../../src/workflows/gates.ts';
import type { MigrationState } from '../../../src/workflows/state.ts';
import { planOf } from '../../workflow/plans.ts';
import { at, atGate, author, blockedIn, fresh, parked, pausedBy, plan, withPhase } from './states.ts';

function read(kind: DecisionKind, input: unknown): Decision {
  const result = readDecision(kind, input);
  if ('why' in result) throw new Error(result.why);
  return result.decision;
}

function whyNot(state: MigrationState, kind: DecisionKind, input: unknown, of: Plan = plan): string | undefined {
  const result = readDecision(kind, input);
  return 'why' in result ? result.why : refusal(of, state, result.decision);
}

function send(state: MigrationState, kind: DecisionKind, input: unknown, of: Plan = plan): Verdict {
  expect(whyNot(state, kind, input, of)).toBeUndefined();
  return applyDecision(of, state, read(kind, input), at(60));
}

const approve = { gate: 'open-downtime', by: 'li', reason: 'go' };
const reject = { gate: 'open-downtime', by: 'li', reason: 'no' };
const abort = { by: 'li', reason: 'not tonight' };
const atFirst = atGate('open-downtime');
const gone: MigrationState = { ...atGate('close-downtime'), pointOfNoReturn: true };

describe('what comes in', () => {
  it.each<[DecisionKind, unknown, string]>([
    ['approve', undefined, 'malformed approve: input'],
    ['approve', 'nonsense', 'malformed approve: input'],
    ['approve', { ...approve, gate: 'close-everything' }, 'malformed approve: gate'],
    ['approve', { ...approve, by: ' ' }, 'must name who decides'],
    ['approve', { ...approve, reason: '' }, 'must say why'],
    ['approve', { ...approve, planDigest: 7 }, 'planDigest'],
    ['reject', { gate: 'open-downtime', by: 'li' }, 'malformed reject: reason'],
    ['pause', { by: 'li' }, 'malformed pause: reason'],
    ['resume', {}, 'malformed resume: by'],
    ['abort', { ...abort, acceptLosingWrites: 'yes' }, 'malformed abort: acceptLosingWrites'],
    ['tune', { by: 'li', preCopyKiBps: -1 }, 'malformed tune: preCopyKiBps'],
    ['tune', { by: 'li', preCopyKiBps: 1.5 }, 'malformed tune: preCopyKiBps'],
  ])('%s %j is malformed', (kind, input, why) => {
    expect(whyNot(atFirst, kind, input)).toContain(why);
  });

  it('ignores fields it does not know, and blanks around names', () => {
    expect(read('approve', { ...approve, by: ' li ', later: 1 })).toEqual({ kind: 'approve', ...approve });
    expect(read('abort', abort)).toMatchObject({ acceptLosingWrites: false });
  });

  it('never throws, whatever is sent, and what it accepts is bounded', () => {
    fc.assert(
      fc.property(fc.constantFrom(...decisionKinds), fc.anything(), (kind, input) => {
        const result = readDecision(kind, input);
        const record = recordOf(kind, input, {
          at: at(0),
          via: 'signal',
          planDigest: plan.digest,
          projectedDowntimeSeconds: 1,
          ...('why' in result && { why: result.why }),
        });
        expect(record.decision).toBe(kind);
      }),
    );
  });

  const last = { ...approve, gate: 'close-downtime' };
  it.each<[string, DecisionKind, MigrationState, (text: string) => unknown]>([
    ['name of an approver', 'approve', atGate('close-downtime'), (text) => ({ ...last, by: text })],
    ['reason of an approval', 'approve', atGate('close-downtime'), (text) => ({ ...last, reason: text })],
    ['digest', 'approve', atGate('close-downtime'), (text) => ({ ...last, planDigest: text })],
    ['gate', 'approve', atFirst, (text) => ({ ...approve, gate: text })],
    ['name of a stranger', 'approve', atFirst, (text) => ({ ...approve, by: text })],
    ['reason of a rejection', 'reject', atGate('close-downtime'), (text) => ({ ...last, reason: text })],
    ['pause', 'pause', fresh(), (text) => ({ by: text, reason: text })],
    ['abort', 'abort', fresh(), (text) => ({ by: text, reason: text })],
    ['limit', 'tune', fresh(), (text) => ({ by: text, preCopyKiBps: text })],
  ])('a %s of a megabyte leaves a small trace', (_name, kind, state, make) => {
    const input = make('x'.repeat(1_000_000));
    const why = whyNot(state, kind, input);
    const record = recordOf(kind, input, {
      at: at(0),
      via: 'signal',
      planDigest: plan.digest,
      projectedDowntimeSeconds: 1,
      ...(why !== undefined && { why }),
    });
    const after = why === undefined ? applyDecision(plan, state, read(kind, input), at(0)).state : state;

    expect(JSON.stringify(record).length).toBeLessThan(6_000);
    expect(JSON.stringify(after).length).toBeLessThan(JSON.stringify(state).length + 6_000);
  });
});

describe('approve', () => {
  it.each<[string, MigrationState, object, string]>([
    ['no gate open', fresh(), {}, 'gate open-downtime is not open yet; no gate awaits a decision'],
    [
      'another gate open',
      atFirst,
      { gate: 'remove-nodes' },
      'gate remove-nodes is not open yet; the gate that awaits a decision is open-downtime',
    ],
    ['a stale digest', atFirst, { planDigest: `sha256:${'1'.repeat(64)}` }, "is not the running plan's"],
    ['a stranger', atFirst, { by: 'mallory' }, 'mallory is not an approver of gate open-downtime: li, zhao, wang'],
    ['the author', atFirst, { by: author }, 'wang wrote the plan and may not approve it'],
    ['a blocked phase', blockedIn('replicate', atFirst), {}, 'phase replicate is blocked'],
    ['an ended migration', { ...atFirst, outcome: 'migrated' }, {}, 'the migration has ended: migrated'],
  ])('is refused for %s', (_name, state, change, why) => {
    expect(whyNot(state, 'approve', { ...approve, ...change })).toContain(why);
  });

  it('counts between two histories, before the gate is opened anew', () => {
    // What a fresh history is handed: nobody is parked at the gate yet.
    const carried: MigrationState = { ...send(atFirst, 'approve', approve).state, parked: [] };
    const second = send(carried, 'approve', { ...approve, by: 'zhao' });

    expect(second.state.gates['open-downtime'].state).toBe('approved');
    expect(whyNot(carried, 'approve', { ...approve, gate: 'remove-nodes' })).toContain(
      'the gate that awaits a decision is open-downtime',
    );
    expect(send(carried, 'reject', reject).rollBack).toBe(true);
  });

  it('says of a decided gate how it was decided', () => {
    const once = send(atFirst, 'approve', approve).state;
    const decided = send(once, 'approve', { ...approve, by: 'zhao' }).state;
    const refused = send(atFirst, 'reject', reject).state;

    expect(whyNot(decided, 'approve', approve)).toContain('gate open-downtime has been approved');
    expect(whyNot({ ...refused, parked: [] }, 'approve', approve)).toContain('gate open-downtime has been rejected');
  });

  it('counts different people until there are enough', () => {
    const first = send(atFirst, 'approve', { ...approve, planDigest: plan.digest });
    const twice = whyNot(first.state, 'approve', approve);
    const second = send(first.state, 'approve', { ...approve, by: 'zhao', reason: 'me too' });

    expect(first.answer).toBe('approval 1 of 2 for gate open-downtime');
    expect(first.state.gates['open-downtime'].state).toBe('awaiting');
    expect(first.state.parked.every(({ outcome }) => outcome === undefined)).toBe(true);
    expect(twice).toBe('li has approved gate open-downtime already: 2 different approvers are needed');
    expect(second.state.gates['open-downtime']).toMatchObject({
      state: 'approved',
      decidedAt: at(60),
      approvals: [
        { by: 'li', reason: 'go', at: at(60) },
        { by: 'zhao', reason: 'me too', at: at(60) },
      ],
    });
    expect(second.state.parked.map(({ outcome }) => outcome)).toEqual(['approved']);
    expect([first.rollBack, second.rollBack]).toEqual([false, false]);
  });

  it('lets anybody but the author approve where nobody is named, and the author where the plan says so', () => {
    const state = atGate('close-downtime');
    const input = { ...approve, gate: 'close-downtime' };
    const self = planOf('self', {
      gates: { ...plan.gates, 'close-downtime': { approvers: [], required: 1, selfApproval: true } },
    });

    expect(whyNot(state, 'approve', { ...input, by: 'anybody' })).toBeUndefined();
    expect(whyNot(state, 'approve', { ...input, by: author })).toContain('wrote the plan');
    expect(whyNot(atGate('close-downtime', fresh(self)), 'approve', { ...input, by: author }, self)).toBeUndefined();
  });

  it('opens after exactly N different approvers, whoever sends what in which order', () => {
    const people = ['li', 'zhao', 'sun', 'chen', author, 'mallory'];
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4 }), fc.array(fc.constantFrom(...people)), (required, senders) => {
        const of: Plan = {
          ...plan,
          gates: {
            ...plan.gates,
            'open-downtime': { approvers: ['li', 'zhao', 'sun', 'chen', author], required, selfApproval: false },
          },
        };
        let state = atGate('open-downtime', fresh(of));
        const counted = new Set<string>();
        for (const by of senders) {
          if (whyNot(state, 'approve', { ...approve, by }, of) !== undefined) continue;
          expect(counted.has(by)).toBe(false);
          counted.add(by);
          state = send(state, 'approve', { ...approve, by }, of).state;
        }
        const willing = new Set(senders.filter((by) => by !== author && by !== 'mallory'));
        expect(counted.has(author) || counted.has('mallory')).toBe(false);
        expect(counted.size).toBe(Math.min(required, willing.size));
        expect(state.gates['open-downtime'].state).toBe(willing.size >= required ? 'approved' : 'awaiting');
      }),
    );
  });
});

describe('reject', () => {
  it.each<[string, MigrationState, object, string | undefined]>([
    ['an approver', atFirst, {}, undefined],
    ['the author, who may always say no', atFirst, { by: author }, undefined],
    ['a stranger', atFirst, { by: 'mallory' }, 'mallory is not an approver'],
    ['nobody: no gate is open', fresh(), {}, 'no gate awaits a decision'],
    ['somebody at another gate', atFirst, { gate: 'close-downtime' }, 'gate close-downtime is not open yet'],
  ])('by %s', (_name, state, change, why) => {
    const answer = whyNot(state, 'reject', { ...reject, ...change });

    if (why === undefined) expect(answer).toBeUndefined();
    else expect(answer).toContain(why);
  });

  it.each<[GateName, Partial<MigrationState>, boolean]>([
    ['open-downtime', {}, true],
    ['remove-nodes', {}, true],
    ['remove-nodes', { applicationsReleased: true }, false],
    ['close-downtime', {}, false],
    ['close-downtime', { pointOfNoReturn: true }, false],
  ])('of %s with %j rolls back: %s', (gate, change, rollsBack) => {
    const verdict = send({ ...atGate(gate), ...change }, 'reject', { ...reject, gate });

    expect(verdict.rollBack).toBe(rollsBack);
    expect(verdict.state.abort !== undefined).toBe(rollsBack);
    expect(verdict.state.gates[gate].state).toBe('rejected');
    expect(verdict.state.parked.map(({ outcome }) => outcome)).toEqual(['rejected']);
    if (rollsBack) expect(verdict.state.abort).toEqual({ by: 'li', reason: `rejected ${gate}: no`, at: at(60) });
  });
});

describe('abort', () => {
  it.each<[string, Partial<MigrationState>, object, string | undefined]>([
    ['at any time before applications are released', {}, {}, undefined],
    ['in the window', { downtime: [{ startedAt: at(0) }] }, {}, undefined],
    [
      'after the release without accepting the loss',
      { applicationsReleased: true },
      {},
      'send acceptLosingWrites: true',
    ],
    ['after the release, loss accepted', { applicationsReleased: true }, { acceptLosingWrites: true }, undefined],
    ['while it finishes', { finishing: true }, { acceptLosingWrites: true }, 'about to end'],
    ['while it finishes past the removal', { finishing: true, pointOfNoReturn: true }, {}, 'about to end'],
    ['twice', { abort: { by: 'sun', reason: 'x', at: at(0) } }, {}, 'sun has aborted already'],
    ['past the point of no return: parks', { pointOfNoReturn: true, applicationsReleased: true }, {}, undefined],
    ['after the end', { outcome: 'rolled-back' }, {}, 'the migration has ended: rolled-back'],
  ])('%s', (_name, change, input, why) => {
    const answer = whyNot({ ...fresh(), ...change }, 'abort', { ...abort, ...input });

    if (why === undefined) expect(answer).toBeUndefined();
    else expect(answer).toContain(why);
  });

  it('rolls back', () => {
    const verdict = send(fresh(), 'abort', abort);

    expect(verdict).toMatchObject({ rollBack: true, state: { abort: { ...abort, at: at(60) } } });
  });

  it('past the point of no return stands still instead, once, until somebody resumes', () => {
    const verdict = send(gone, 'abort', abort);
    const again = whyNot(verdict.state, 'abort', abort);
    const resumed = send(verdict.state, 'resume', { by: 'li' });

    expect(verdict.rollBack).toBe(false);
    expect(verdict.state.abort).toBeUndefined();
    expect(verdict.state.parked.at(-1)).toMatchObject({ kind: 'no-way-back', choices: ['resume'], by: 'li' });
    expect(again).toBe('the old nodes are removed: there is no way back');
    expect(resumed.state.parked.map(({ kind }) => kind)).toEqual(['gate']);
  });

  it('never rolls back past the point of no return or against released writes, whatever was sent before', () => {
    const kinds = fc.constantFrom(...decisionKinds);
    const states = fc.record({ pointOfNoReturn: fc.boolean(), applicationsReleased: fc.boolean() });
    fc.assert(
      fc.property(states, fc.array(kinds, { maxLength: 12 }), fc.constantFrom(...gateNames), (facts, sent, gate) => {
        let state: MigrationState = { ...atGate(gate), ...facts };
        for (const kind of sent) {
          const input = { gate, by: 'li', reason: 'r', preCopyKiBps: 1 };
          if (whyNot(state, kind, input) !== undefined) continue;
          const verdict = applyDecision(plan, state, read(kind, input), at(60));
          if (facts.pointOfNoReturn || facts.applicationsReleased) expect(verdict.rollBack).toBe(false);
          state = verdict.state;
        }
      }),
    );
  });
});

describe('pause and resume', () => {
  it('pauses once, before the next step, and ends with resume', () => {
    const paused = send(withPhase(fresh(), 'add-nodes', { state: 'running' }), 'pause', abort);
    const again = whyNot(paused.state, 'pause', abort);
    const resumed = send(paused.state, 'resume', { by: 'li' });

    expect(paused.state.parked).toMatchObject([{ kind: 'paused', phase: 'add-nodes', by: 'li', id: 1 }]);
    expect(again).toBe('the migration is paused already');
    expect(resumed.state.parked).toEqual([]);
  });

  it.each<[string, Partial<MigrationState>, string[]]>([
    ['on the way', {}, ['resume', 'abort']],
    ['on the way back', { abort: { by: 'li', reason: 'x', at: at(0) } }, ['resume']],
    ['past the point of no return', { pointOfNoReturn: true }, ['resume']],
    ['at the end', { finishing: true }, ['resume']],
  ])('offers %s what would count', (_, change, choices) => {
    const paused = send({ ...fresh(), ...change }, 'pause', abort);

    expect(paused.state.parked.at(-1)?.choices).toEqual(choices);
  });

  it('has nothing to resume at a gate or while work goes on', () => {
    expect(whyNot(fresh(), 'resume', { by: 'li' })).toBe('nothing is paused, blocked or sent back');
    expect(whyNot(atFirst, 'resume', { by: 'li' })).toBe('nothing is paused, blocked or sent back');
  });

  it('resumes everything that is blocked at once, says whose pause ends with it, and leaves the gate alone', () => {
    const state = blockedIn('final-copy', blockedIn('uninstall', pausedBy('sun', atFirst)));
    const { state: after, answer } = send(state, 'resume', { by: 'li' });

    expect(answer).toBe('resumed; the pause of sun (phone call) is over too');
    expect(after.parked.map(({ kind, outcome }) => [kind, outcome])).toEqual([
      ['gate', undefined],
      ['blocked', 'resumed'],
      ['blocked', 'resumed'],
    ]);
  });

  it.each<[string, MigrationState, string]>([
    ['a pause alone', pausedBy('sun', atFirst), 'resumed; the pause of sun (phone call) is over'],
    ['a block alone', blockedIn('uninstall', atFirst), 'resumed'],
    [
      'an abort that came too late, and a block',
      blockedIn('verify', send(gone, 'abort', { by: 'sun', reason: 'panic' }).state),
      'resumed; the standstill after the abort of sun (panic) is over too',
    ],
    [
      'a pause while whoever was resumed tries again',
      pausedBy('sun', send(blockedIn('uninstall'), 'resume', { by: 'li' }).state),
      'resumed; the pause of sun (phone call) is over',
    ],
  ])('answers for %s', (_, state, answer) => {
    expect(send(state, 'resume', { by: 'li' }).answer).toBe(answer);
  });

  it('does not count a second time before whoever was blocked has tried again', () => {
    const { state } = send(blockedIn('uninstall'), 'resume', { by: 'li' });

    expect(whyNot(state, 'resume', { by: 'sun' })).toBe('nothing is paused, blocked or sent back');
  });
});

describe('tune', () => {
  it('changes the limit while copies are online, and says how', () => {
    expect(send(fresh(), 'tune', { by: 'li', preCopyKiBps: 9 })).toMatchObject({
      state: { preCopyKiBps: 9 },
      answer: 'online copies now use 9 KiB/s per source host',
    });
    expect(send(fresh(), 'tune', { by: 'li', preCopyKiBps: 0 }).answer).toContain('all the bandwidth there is');
    const limits = { preCopySchedule: [{ from: '22:00', to: '06:00', limitKiBps: 1 }] };
    expect(send(fresh(), 'tune', { by: 'li', preCopyKiBps: 0 }, planOf('hours', { limits })).answer).toBe(
      'online copies now use all the bandwidth there is, except in the hours for which the plan has a limit',
    );
  });

  it.each<Partial<MigrationState>>([
    { downtime: [{ startedAt: at(0) }] },
    { abort: { by: 'li', reason: 'x', at: at(0) } },
  ])('is refused with %j', (change) => {
    expect(whyNot({ ...fresh(), ...change }, 'tune', { by: 'li', preCopyKiBps: 9 })).toContain('online copies only');
  });
});

describe('after the end', () => {
  it.each(decisionKinds)('%s does not count', (kind) => {
    const input = { gate: 'open-downtime', by: 'li', reason: 'r', preCopyKiBps: 1 };

    expect(whyNot({ ...atFirst, outcome: 'migrated' }, kind, input)).toBe('the migration has ended: migrated');
  });
});

it('a decision never changes the state that it was made on', () => {
  const states = [fresh(), atFirst, blockedIn('uninstall', atFirst), pausedBy('li'), gone];
  for (const state of states) {
    const before = structuredClone(state);
    for (const kind of decisionKinds) {
      const input = { gate: 'open-downtime', by: 'li', reason: 'r', preCopyKiBps: 1 };
      if (whyNot(state, kind, input) === undefined) applyDecision(plan, state, read(kind, input), at(1));
    }
    expect(state).toEqual(before);
  }
});

describe('the phase at work', () => {
  it.each<[string, MigrationState, string]>([
    ['nothing began', fresh(), 'preflight'],
    ['one runs', withPhase(fresh(), 'uninstall', { state: 'running' }), 'uninstall'],
    ['one is undone', withPhase(fresh(), 'add-nodes', { state: 'undoing' }), 'add-nodes'],
    [
      'one is undone while an earlier one was left half done',
      withPhase(withPhase(fresh(), 'uninstall', { state: 'running' }), 'final-copy', { state: 'undoing' }),
      'final-copy',
    ],
    ['a gate waits', atGate('close-downtime', fresh(), 'start-apps'), 'start-apps'],
    ['one is blocked', blockedIn('final-copy', withPhase(fresh(), 'uninstall', { state: 'running' })), 'final-copy'],
    ['a pause', parked(withPhase(fresh(), 'verify', { state: 'running' }), { kind: 'paused' }), 'verify'],
    ['all done', { ...fresh(), phases: fresh().phases.map((phase) => ({ ...phase, state: 'done' })) }, 'verify'],
  ])('%s', (_name, state, phase) => {
    expect(currentPhase(state)).toBe(phase);
  });
});

describe('the record of a decision', () => {
  const facts = { at: at(0), via: 'update' as const, planDigest: plan.digest, projectedDowntimeSeconds: 12 };

  it.each<[DecisionKind, unknown, object]>([
    ['approve', approve, { gate: 'open-downtime', by: 'li', reason: 'go', counted: true }],
    ['approve', { ...approve, gate: 'x' }, { by: 'li' }],
    ['approve', 'nonsense', { by: '(nobody)', reason: '' }],
    ['tune', { by: 'li', preCopyKiBps: 5 }, { reason: '5 KiB/s per source host' }],
  ])('of %s %j', (kind, input, expected) => {
    expect(recordOf(kind, input, facts)).toMatchObject({ decision: kind, via: 'update', at: at(0), ...expected });
  });

  it('says why it did not count', () => {
    expect(recordOf('resume', { by: 'li' }, { ...facts, why: 'nothing is paused' })).toMatchObject({
      counted: false,
      why: 'nothing is paused',
    });
  });
});
