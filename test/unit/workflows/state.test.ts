import { describe, expect, it, vi } from 'vitest';
import { carry } from '../../../src/workflows/checkpoint.ts';
import { phaseOf, withParked } from '../../../src/workflows/state.ts';
import { atGate, blockedIn, fresh, parked, pausedBy, plan, start } from './states.ts';

// The real one is bound to a workflow as soon as it is loaded.
vi.mock('@temporalio/workflow', async (original) => ({
  ...(await original<object>()),
  makeContinueAsNewFunc: () => vi.fn(),
}));

describe('the state at the beginning', () => {
  it('has every phase, gate and transfer of the plan, all of them pending', () => {
    const state = fresh();

    expect(new Set(state.phases.map((phase) => phase.state))).toEqual(new Set(['pending']));
    expect(Object.values(state.gates).map((gate) => [gate.name, gate.state, gate.required])).toEqual([
      ['open-downtime', 'pending', 2],
      ['remove-nodes', 'pending', 1],
      ['close-downtime', 'pending', 1],
    ]);
    expect(state.transfers.map(({ id }) => id)).toEqual(plan.transfers.map(({ id }) => id));
    expect(state.preCopyKiBps).toBe(plan.limits.preCopyKiBps);
  });

  it('names transfers as people and Temporal know them', () => {
    const transfers = new Map(fresh().transfers.map((transfer) => [transfer.id, transfer]));

    expect(transfers.get('kafka-1')).toMatchObject({
      subject: { component: 'kafka', ordinal: 1 },
      source: 'old2:/sysvol/kafka',
      destination: 'new2:/sysvol/kafka',
      workflowId: 'migrate-unit/kafka-1',
      passes: [],
    });
    expect(transfers.get('host-old2-registry')?.subject).toEqual({ service: 'proton-cr-registry' });
  });

  it('is plain data: a fresh history gets the same', () => {
    const state = blockedIn('uninstall', pausedBy('li', atGate('open-downtime')));

    expect(JSON.parse(JSON.stringify(state))).toEqual(state);
  });
});

describe('phaseOf', () => {
  it('finds a phase and refuses one that the plan does not have', () => {
    const state = fresh();

    expect(phaseOf(state, 'verify').name).toBe('verify');
    expect(() => phaseOf({ ...state, phases: [] }, 'verify')).toThrow('phase verify is not part of this migration');
  });
});

describe('what waits for people', () => {
  it('is numbered over the whole migration and never twice', () => {
    const one = withParked(fresh(), { kind: 'paused', phase: 'verify', since: start, choices: [] });
    const closed = { ...one, parked: [] };
    const two = withParked(closed, { kind: 'paused', phase: 'verify', since: start, choices: [] });

    expect(one.parked.map(({ id }) => id)).toEqual([1]);
    expect(two.parked.map(({ id }) => id)).toEqual([2]);
  });

  it('goes over into a fresh history only where nobody opens it anew', () => {
    const state = parked(blockedIn('uninstall', pausedBy('li', atGate('open-downtime'))), { kind: 'no-way-back' });

    expect(carry(state).parked.map(({ kind }) => kind)).toEqual(['paused', 'no-way-back']);
    expect(carry(state).parkedSoFar).toBe(4);
  });
});
