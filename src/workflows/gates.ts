import { z } from 'zod';
import type { GateName, Plan } from '../plan/plan.ts';
import { gateNames } from '../plan/plan.ts';
import type { DecisionRecord, PhaseState, PhaseStatus } from './messages.ts';
import { clip } from './policies.ts';
import type { MigrationState, Parked } from './state.ts';
import { withParked } from './state.ts';

/** Longer names and reasons are cut: they stay in state and status, which have to fit into one message. */
const textBytes = 1_500;

const person = z.string().trim().min(1, 'must name who decides').transform(bounded);
const reason = z.string().trim().min(1, 'must say why').transform(bounded);
const gate = z.enum(gateNames);

/** What arrives from outside; unknown fields are ignored so that an older client can talk to a newer worker. */
const decisionSchemas = {
  approve: z.object({ gate, by: person, reason, planDigest: z.string().max(200).optional() }),
  reject: z.object({ gate, by: person, reason }),
  pause: z.object({ by: person, reason }),
  resume: z.object({ by: person }),
  abort: z.object({ by: person, reason, acceptLosingWrites: z.boolean().default(false) }),
  tune: z.object({ by: person, preCopyKiBps: z.int().min(0) }),
};

export const decisionKinds = ['approve', 'reject', 'pause', 'resume', 'abort', 'tune'] as const;
export type DecisionKind = (typeof decisionKinds)[number];

export type Decision = {
  [Kind in DecisionKind]: { kind: Kind } & z.infer<(typeof decisionSchemas)[Kind]>;
}[DecisionKind];

/** Reads a decision as it came; answers the decision or why it cannot be one. */
export function readDecision(kind: DecisionKind, input: unknown): { decision: Decision } | { why: string } {
  const parsed = decisionSchemas[kind].safeParse(input);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => `${issue.path.join('.') || 'input'}: ${issue.message}`);
    return { why: `malformed ${kind}: ${problems.join('; ')}` };
  }
  return { decision: { kind, ...parsed.data } as Decision };
}

/** Why a decision does not count now; undefined when it does. Changes nothing: validators ask it before anything is written. */
export function refusal(plan: Plan, state: MigrationState, decision: Decision): string | undefined {
  if (state.outcome !== undefined) {
    return `the migration has ended: ${state.outcome}`;
  }
  switch (decision.kind) {
    case 'approve':
      return refuseApproval(plan, state, decision);
    case 'reject':
      return refuseRejection(plan, state, decision);
    case 'pause':
      return parkedAs(state, 'paused') === undefined ? undefined : 'the migration is paused already';
    case 'resume':
      return state.parked.some((parked) => parked.choices.includes('resume') && parked.outcome === undefined)
        ? undefined
        : 'nothing is paused, blocked or sent back';
    case 'abort':
      return refuseAbort(state, decision);
    case 'tune':
      return state.downtime.length > 0 || state.abort !== undefined
        ? 'the bandwidth limit holds for online copies only, and those are over'
        : undefined;
  }
}

function refuseApproval(
  plan: Plan,
  state: MigrationState,
  decision: Extract<Decision, { kind: 'approve' }>,
): string | undefined {
  const rules = plan.gates[decision.gate];
  const wrongGate = refuseGate(state, decision.gate);
  if (wrongGate !== undefined) {
    return wrongGate;
  }
  if (decision.planDigest !== undefined && decision.planDigest !== plan.digest) {
    return `plan digest ${decision.planDigest} is not the running plan's: ${plan.digest}`;
  }
  const stranger = refusePerson(rules.approvers, decision.by, decision.gate);
  if (stranger !== undefined) {
    return stranger;
  }
  if (decision.by === plan.author && !rules.selfApproval) {
    return `${decision.by} wrote the plan and may not approve it: somebody else has to`;
  }
  if (state.gates[decision.gate].approvals.some((approval) => approval.by === decision.by)) {
    return `${decision.by} has approved gate ${decision.gate} already: ${rules.required} different approvers are needed`;
  }
  const blocked = parkedAs(state, 'blocked');
  if (blocked !== undefined) {
    return `phase ${blocked.phase} is blocked: resume it first, or abort`;
  }
  return undefined;
}

function refuseRejection(
  plan: Plan,
  state: MigrationState,
  decision: Extract<Decision, { kind: 'reject' }>,
): string | undefined {
  const wrongGate = refuseGate(state, decision.gate);
  if (wrongGate !== undefined) {
    return wrongGate;
  }
  // The author may always say no, approver or not: a no loses nothing.
  return decision.by === plan.author
    ? undefined
    : refusePerson(plan.gates[decision.gate].approvers, decision.by, decision.gate);
}

function refuseGate(state: MigrationState, name: GateName): string | undefined {
  const open = openGate(state);
  if (open === name) {
    return undefined;
  }
  const itself = state.gates[name];
  const about =
    itself.state === 'approved'
      ? `gate ${name} has been approved`
      : itself.state === 'rejected'
        ? `gate ${name} has been rejected`
        : `gate ${name} is not open yet`;
  return `${about}; ${open === undefined ? 'no gate awaits a decision' : `the gate that awaits a decision is ${open}`}`;
}

/** Where a fresh history has just begun, what it was handed says so before the gate is opened anew: a signal may come in between. */
function openGate(state: MigrationState): GateName | undefined {
  const parked = state.parked.find(({ kind, outcome }) => kind === 'gate' && outcome === undefined)?.gate;
  if (parked !== undefined || state.abort !== undefined) return parked;
  return gateNames.find((name) => state.gates[name].state === 'awaiting');
}

function refusePerson(approvers: readonly string[], by: string, name: GateName): string | undefined {
  return approvers.length === 0 || approvers.includes(by)
    ? undefined
    : `${by} is not an approver of gate ${name}: ${approvers.join(', ')}`;
}

function refuseAbort(state: MigrationState, decision: Extract<Decision, { kind: 'abort' }>): string | undefined {
  if (state.abort !== undefined) {
    return `${state.abort.by} has aborted already: the migration is rolling back`;
  }
  if (state.finishing === true) {
    return 'all phases are done and the migration is about to end: it only takes its own documents and its lock out of the cluster, and does not go back from there';
  }
  if (state.pointOfNoReturn) {
    return parkedAs(state, 'no-way-back') === undefined ? undefined : 'the old nodes are removed: there is no way back';
  }
  if (state.applicationsReleased && !decision.acceptLosingWrites) {
    return 'applications were started on the new nodes: going back loses what they wrote since; to go back all the same send acceptLosingWrites: true';
  }
  return undefined;
}

/** What people may do where the work stands. Resume is always offered, even for failures that never heal here: it may be the only way on. */
export function choicesOf(state: MigrationState): ('resume' | 'abort')[] {
  const isTooLate = state.abort !== undefined || state.pointOfNoReturn || state.finishing === true;
  return isTooLate ? ['resume'] : ['resume', 'abort'];
}

function parkedAs(state: MigrationState, kind: Parked['kind']): Parked | undefined {
  return state.parked.find((parked) => parked.kind === kind && parked.outcome === undefined);
}

export interface Verdict {
  state: MigrationState;
  /** What to answer to the person who decided. */
  answer: string;
  /** True when the forward work must stop now and be undone. */
  rollBack: boolean;
}

/** The state after a decision that counts. Pure; only call it when `refusal` has nothing to say. */
export function applyDecision(plan: Plan, state: MigrationState, decision: Decision, now: string): Verdict {
  switch (decision.kind) {
    case 'approve':
      return approve(plan, state, decision, now);
    case 'reject':
      return reject(state, decision, now);
    case 'pause': {
      const paused = withParked(state, {
        kind: 'paused',
        phase: currentPhase(state),
        since: now,
        choices: choicesOf(state),
        by: decision.by,
        reason: decision.reason,
      });
      return going(paused, 'paused: takes effect before the next step');
    }
    case 'resume':
      return going({ ...state, parked: state.parked.flatMap(resumed) }, resumeAnswer(state));
    case 'abort':
      return abort(state, decision, now);
    case 'tune':
      return going(
        { ...state, preCopyKiBps: decision.preCopyKiBps },
        `online copies now use ${decision.preCopyKiBps === 0 ? 'all the bandwidth there is' : `${decision.preCopyKiBps} KiB/s per source host`}${plan.limits.preCopySchedule === undefined ? '' : ', except in the hours for which the plan has a limit'}`,
      );
  }
}

function going(state: MigrationState, answer: string): Verdict {
  return { state, answer, rollBack: false };
}

/** Pauses end at once; whoever waits on the others sees the outcome and tries again. */
function resumed(parked: Parked): Parked[] {
  if (!parked.choices.includes('resume')) {
    return [parked];
  }
  return parked.kind === 'paused' || parked.kind === 'no-way-back' ? [] : [{ ...parked, outcome: 'resumed' }];
}

/** Who resumes what is blocked may not know that somebody else asked for a standstill meanwhile, which ends with it. */
function resumeAnswer({ parked }: MigrationState): string {
  const resumable = parked.filter(({ choices, outcome }) => choices.includes('resume') && outcome === undefined);
  const ends = resumable.filter(({ kind }) => kind === 'paused' || kind === 'no-way-back');
  const too = ends.length === resumable.length ? '' : ' too';
  return [
    'resumed',
    ...ends.map(({ kind, by = 'somebody', reason: why = 'no reason given' }) => {
      const what = kind === 'paused' ? 'the pause' : 'the standstill after the abort';
      return `${what} of ${by} (${why}) is over${too}`;
    }),
  ].join('; ');
}

function approve(
  plan: Plan,
  state: MigrationState,
  decision: Extract<Decision, { kind: 'approve' }>,
  now: string,
): Verdict {
  const { required } = plan.gates[decision.gate];
  const before = state.gates[decision.gate];
  const approvals = [...before.approvals, { by: decision.by, reason: decision.reason, at: now }];
  const enough = approvals.length >= required;
  const after = enough
    ? { ...before, approvals, state: 'approved' as const, decidedAt: now }
    : { ...before, approvals };
  const next = { ...state, gates: { ...state.gates, [decision.gate]: after } };
  return enough
    ? going(decideGate(next, decision.gate, 'approved'), `gate ${decision.gate} is approved`)
    : going(next, `approval ${approvals.length} of ${required} for gate ${decision.gate}`);
}

function reject(state: MigrationState, decision: Extract<Decision, { kind: 'reject' }>, now: string): Verdict {
  const gate = { ...state.gates[decision.gate], state: 'rejected' as const, decidedAt: now };
  const next = decideGate({ ...state, gates: { ...state.gates, [decision.gate]: gate } }, decision.gate, 'rejected');
  if (rejectionRollsBack(state, decision.gate)) {
    const request = { by: decision.by, reason: `rejected ${decision.gate}: ${decision.reason}`, at: now };
    return {
      state: { ...next, abort: request },
      answer: `gate ${decision.gate} is rejected: rolling back`,
      rollBack: true,
    };
  }
  return going(next, `gate ${decision.gate} is rejected: sent back until somebody resumes`);
}

/** A rejected result is looked at again; a rejected step before the old nodes are gone means going back, unless that loses writes. */
function rejectionRollsBack(state: MigrationState, name: GateName): boolean {
  return name !== 'close-downtime' && !state.pointOfNoReturn && !state.applicationsReleased;
}

function abort(state: MigrationState, decision: Extract<Decision, { kind: 'abort' }>, now: string): Verdict {
  if (state.pointOfNoReturn) {
    const parked = withParked(state, {
      kind: 'no-way-back',
      phase: currentPhase(state),
      since: now,
      choices: ['resume'],
      by: decision.by,
      reason: decision.reason,
    });
    return going(
      parked,
      'past the point of no return: nothing is rolled back; the migration stands still before its next step until somebody resumes',
    );
  }
  return {
    state: { ...state, abort: { by: decision.by, reason: decision.reason, at: now } },
    answer: 'aborting: what was done is undone in reverse',
    rollBack: true,
  };
}

function decideGate(state: MigrationState, name: GateName, outcome: 'approved' | 'rejected'): MigrationState {
  return {
    ...state,
    parked: state.parked.map((parked) =>
      parked.kind === 'gate' && parked.gate === name ? { ...parked, outcome } : parked,
    ),
  };
}

/** The phase people see as the one at work: what is undone before what was left half done, else the next to come. */
export function currentPhase(state: MigrationState): MigrationState['phases'][number]['name'] {
  const parked = state.parked.findLast((candidate) => candidate.kind === 'gate' || candidate.kind === 'blocked');
  if (parked !== undefined) {
    return parked.phase;
  }
  const inState = (wanted: PhaseState): PhaseStatus | undefined => state.phases.find((phase) => phase.state === wanted);
  const next = inState('undoing') ?? inState('running') ?? inState('pending') ?? state.phases.at(-1);
  return next?.name ?? 'preflight';
}

/** The record of a decision, counted or not; whatever people sent, it is small. */
export function recordOf(
  kind: DecisionKind,
  input: unknown,
  facts: Pick<DecisionRecord, 'at' | 'via' | 'planDigest'> & { projectedDowntimeSeconds: number; why?: string },
): DecisionRecord {
  const given = (typeof input === 'object' && input !== null ? input : {}) as Record<string, unknown>;
  const named = gateNames.find((name) => name === given['gate']);
  return {
    decision: kind,
    ...(named === undefined ? {} : { gate: named }),
    by: text(given['by']) ?? '(nobody)',
    reason: text(given['reason']) ?? limitText(kind, given['preCopyKiBps']),
    at: facts.at,
    via: facts.via,
    counted: facts.why === undefined,
    ...(facts.why === undefined ? {} : { why: bounded(facts.why) }),
    planDigest: facts.planDigest,
    projectedDowntimeSeconds: facts.projectedDowntimeSeconds,
  };
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? bounded(value.trim()) : undefined;
}

function limitText(kind: DecisionKind, limit: unknown): string {
  return kind === 'tune' && typeof limit === 'number' ? `${limit} KiB/s per source host` : '';
}

function bounded(value: string): string {
  return clip(value, textBytes);
}
