import { condition, workflowInfo } from '@temporalio/workflow';
import type { GateName, Plan } from '../plan/plan.ts';
import { withBar } from './bar.ts';
import { checkpoint } from './checkpoint.ts';
import { choicesOf } from './gates.ts';
import type { PhaseName } from './messages.ts';
import type { Migration, Phase } from './migration.ts';
import { notify, now, publish } from './migration.ts';
import { closeParking, openParking, outcomeOf, park, pausePoint } from './parking.ts';
import { gateReminderSeconds } from './policies.ts';
import { allOrFirstFailure } from './slots.ts';
import type { Outcome } from './state.ts';
import { phaseOf } from './state.ts';
import { approveCommand, describeAwaited, duration, viewStatus } from './status.ts';

/** What was proved before people are asked, and what was not as before and is theirs to accept. */
export interface Checked {
  proof: string;
  differences: readonly string[];
}

/** A point where people decide whether the migration goes on. */
export interface GateStage {
  gate: GateName;
  /** The phase under which people see it. */
  phase: PhaseName;
  check?: (migration: Migration, phase: PhaseName) => Promise<Checked>;
  /** What goes on while they think, until the given question is answered. */
  meanwhile?: (migration: Migration, until: () => boolean) => Promise<void>;
  /** Who approves it also accepts what could not be proved. */
  acceptsUnproved?: true;
  skip?: (plan: Plan) => string | undefined;
}

/** One rung of the ladder: a phase, a gate, or phases that work hand in hand. */
export type Stage = Phase | GateStage | { together: readonly Phase[] };

export function phasesOf(stage: Stage): readonly Phase[] {
  if ('together' in stage) {
    return stage.together;
  }
  return 'gate' in stage ? [] : [stage];
}

/** Takes one rung. What a fresh history finds done already is not done again. */
export async function passStage(migration: Migration, stage: Stage): Promise<void> {
  if ('gate' in stage) {
    await passGate(migration, stage);
    return;
  }
  await allOrFirstFailure(phasesOf(stage).map((phase) => passPhase(migration, phase)));
}

async function passPhase(migration: Migration, phase: Phase): Promise<void> {
  const status = phaseOf(migration.state, phase.name);
  if (status.state === 'done' || status.state === 'skipped') {
    return;
  }
  const why = phase.skip?.(migration.plan);
  if (why !== undefined) {
    status.state = 'skipped';
    status.detail = why;
    publish(migration);
    return;
  }
  await pausePoint(migration);
  if (phase.undo !== undefined && !migration.state.undo.includes(phase.name)) {
    migration.state.undo = [...migration.state.undo, phase.name];
  }
  status.state = 'running';
  status.startedAt ??= now();
  publish(migration);
  status.detail = await withBar(`§${phase.section} ${phase.name}`, () => phase.run(migration));
  status.state = 'done';
  status.doneAt = now();
  status.endedAt = status.doneAt;
  publish(migration);
}

async function passGate(migration: Migration, stage: GateStage): Promise<void> {
  if (stage.skip?.(migration.plan) !== undefined) {
    return;
  }
  while (migration.state.gates[stage.gate].state !== 'approved') {
    await pausePoint(migration);
    await askAt(migration, stage);
  }
}

async function askAt(migration: Migration, stage: GateStage): Promise<void> {
  const gate = migration.state.gates[stage.gate];
  const isNew = gate.state !== 'awaiting';
  if (isNew) {
    const { proof, differences = [] } = (await stage.check?.(migration, stage.phase)) ?? {};
    const { unproved: before = [] } = migration.state;
    const unproved = [...differences, ...(stage.acceptsUnproved === true ? before : [])];
    migration.state.gates = {
      ...migration.state.gates,
      [stage.gate]: {
        ...{ name: gate.name, required: gate.required, state: 'awaiting', approvals: [], openedAt: now() },
        ...(unproved.length > 0 ? { unproved } : {}),
      },
    };
    if (proof !== undefined) {
      phaseOf(migration.state, stage.phase).detail = proof;
    }
  }
  const id = openParking(migration, {
    kind: 'gate',
    phase: stage.phase,
    gate: stage.gate,
    choices: ['approve', 'reject', 'abort'],
  });
  if (isNew) {
    askPeople(migration, stage.gate);
  }
  let outcome: Outcome;
  try {
    outcome = await withBar(`gate ${stage.gate} awaits approval`, () => decisionAt(migration, stage, id));
  } finally {
    closeParking(migration, id);
  }
  if (outcome === 'rejected') {
    const { by, reason } = lastRejection(migration, stage.gate);
    await park(migration, {
      kind: 'sent-back',
      phase: stage.phase,
      gate: stage.gate,
      choices: choicesOf(migration.state),
      by,
      reason,
    });
  }
}

async function decisionAt(migration: Migration, stage: GateStage, id: number): Promise<Outcome> {
  const isDecided = (): boolean => outcomeOf(migration, id) !== undefined;
  const meanwhile = stage.meanwhile ?? waitForReminder;
  for (;;) {
    await meanwhile(migration, isDecided);
    const outcome = outcomeOf(migration, id);
    if (outcome !== undefined) {
      return outcome;
    }
    if (Date.now() - Date.parse(migration.state.askedAt ?? now()) >= gateReminderSeconds * 1000) {
      askPeople(migration, stage.gate);
    }
    await checkpoint(migration);
  }
}

async function waitForReminder(_migration: Migration, until: () => boolean): Promise<void> {
  await condition(until, gateReminderSeconds * 1000, { summary: 'until people are reminded' });
}

function askPeople(migration: Migration, gate: GateName): void {
  const { plan, state } = migration;
  state.askedAt = now();
  const { downtime, gates } = viewStatus(plan, state, Date.now());
  const asked = gates.find(({ name }) => name === gate);
  const { unproved = [] } = state.gates[gate];
  notify(
    migration,
    'gate',
    `Gate ${gate} of ${plan.cluster} ${describeAwaited(asked)}. Projected downtime: ${duration(downtime.projectedSeconds)} ± ${duration(downtime.projectedErrorSeconds)}.${unproved.length === 0 ? '' : ` Not proved, and accepted with the approval: ${unproved.join('; ')}.`}`,
    { gate, command: approveCommand(plan, workflowInfo().workflowId, gate) },
  );
}

function lastRejection(migration: Migration, gate: GateName): { by: string; reason: string } {
  const record = migration.state.decisions.findLast(
    (decision) => decision.decision === 'reject' && decision.gate === gate && decision.counted,
  );
  return { by: record?.by ?? 'somebody', reason: record?.reason ?? '' };
}
