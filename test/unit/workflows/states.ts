import type { GateName, Plan } from '../../../src/plan/plan.ts';
import { phaseNames } from '../../../src/workflows/messages.ts';
import type { PhaseName, PhaseState } from '../../../src/workflows/messages.ts';
import type { MigrationState, Parked } from '../../../src/workflows/state.ts';
import { initialState, phaseOf, withParked } from '../../../src/workflows/state.ts';
import { author, planOf } from '../../workflow/plans.ts';

export { author };
export const start = '2026-01-01T00:00:00.000Z';
export const startTime = Date.parse(start);

/** A moment so many seconds after the start. */
export function at(seconds: number): string {
  return new Date(startTime + seconds * 1000).toISOString();
}

const gates = planOf('template').gates;

/** Two of three named people at the first gate, of whom one wrote the plan; anybody but the author at the others. */
export const plan: Plan = planOf('unit', {
  gates: { ...gates, 'open-downtime': { approvers: ['li', 'zhao', author], required: 2, selfApproval: false } },
});

export function fresh(of: Plan = plan): MigrationState {
  return initialState(
    of,
    phaseNames.map((name, index) => ({ name, section: index + 4 })),
    start,
  );
}

export function parked(state: MigrationState, change: Partial<Parked> & Pick<Parked, 'kind'>): MigrationState {
  return withParked(state, { phase: 'replicate', since: start, choices: [], ...change });
}

/** A state that waits at a gate. */
export function atGate(
  gate: GateName,
  state: MigrationState = fresh(),
  phase: PhaseName = 'replicate',
): MigrationState {
  const opened = {
    ...state,
    gates: { ...state.gates, [gate]: { ...state.gates[gate], state: 'awaiting' as const, openedAt: start } },
  };
  return parked(opened, { kind: 'gate', gate, phase, choices: ['approve', 'reject', 'abort'] });
}

export function blockedIn(phase: PhaseName, state: MigrationState = fresh()): MigrationState {
  return parked(state, {
    kind: 'blocked',
    phase,
    choices: ['resume', 'abort'],
    blocked: { cause: 'disk full', untouched: 'nothing was written', next: 'make room', heals: 'human' },
  });
}

export function pausedBy(by: string, state: MigrationState = fresh()): MigrationState {
  return parked(state, { kind: 'paused', by, reason: 'phone call', choices: ['resume', 'abort'] });
}

export function withPhase(
  state: MigrationState,
  name: PhaseName,
  change: { state: PhaseState; startedAt?: string; endedAt?: string; detail?: string },
): MigrationState {
  phaseOf(state, name);
  return {
    ...state,
    phases: state.phases.map((phase) => (phase.name === name ? { ...phase, ...change } : phase)),
  };
}
