import type { ApplicationRecord, ConfigStage, Probe, VolumeRecord } from '../activities/contract.ts';
import type { ComponentKind, GateName, Plan } from '../plan/plan.ts';
import type { DowntimeSpan } from './downtime.ts';
import type { BlockedStatus, DecisionRecord, GateStatus, PhaseName, PhaseStatus, TransferStatus } from './messages.ts';

export type Choice = 'approve' | 'reject' | 'resume' | 'abort';
export type Outcome = 'approved' | 'rejected' | 'resumed';

/** Something that waits for a person: what for, since when, what may be chosen, and what was chosen in the end. */
export interface Parked {
  /** Counts up over the whole migration. */
  id: number;
  kind: 'gate' | 'blocked' | 'paused' | 'sent-back' | 'no-way-back';
  phase: PhaseName;
  since: string;
  choices: readonly Choice[];
  gate?: GateName;
  /** Who put it here, for a pause, a rejection or an abort that came too late. */
  by?: string;
  reason?: string;
  blocked?: Omit<BlockedStatus, 'phase' | 'since'>;
  outcome?: Outcome;
}

export interface AbortRequest {
  by: string;
  reason: string;
  at: string;
}

/**
 * Everything a migration knows; plain data, so that a fresh history can carry it on. What people see (`status`, current details, search
 * attributes) is computed from it and from nothing else.
 */
export interface MigrationState {
  startedAt: string;
  phases: PhaseStatus[];
  gates: Record<GateName, GateStatus>;
  decisions: DecisionRecord[];
  transfers: TransferStatus[];
  parked: Parked[];
  parkedSoFar: number;
  /** Phases whose undo is registered, in the order in which they began. */
  undo: PhaseName[];
  abort?: AbortRequest;
  /** All phases are done, or undone; only what the migration itself put into the cluster is still taken away. Absent: not so far yet. */
  finishing?: true;
  outcome?: 'migrated' | 'rolled-back';

  /** The mark in the cluster that keeps other migrations off was asked for. */
  holdsCluster?: true;
  /** Names of all nodes as last observed or applied. */
  nodes: string[];
  /** Write-once: what ran before anything was stopped. */
  applications?: ApplicationRecord;
  /** Write-once: the objects that held the data before anything was uninstalled. */
  volumes?: VolumeRecord[];
  /** Write-once: taken with the applications stopped and the components still on the old hosts. */
  probes?: Probe[];
  /** When all checks of the plan were good the last time. */
  checkedAt?: string;
  /** What nothing will compare after the move, as last known; people accept it at a gate. */
  unproved?: string[];
  /** Stages whose apply was begun. */
  applied: ConfigStage[];
  /** Masters whose join was begun, in order; absent: none. */
  joined?: string[];
  /** Nodes that left the cluster outside of apply; absent: none. */
  departed?: string[];
  /** Nodes that are leaving and that etcd did not know as members when it was last asked; absent: not asked yet. */
  noMembers?: string[];
  /** New machines that did not answer on the way back, and are left out of it; absent: none. */
  lost?: string[];
  /** Where proton-cli works once the first control host has handed over. */
  controlHost?: string;
  uninstallBegun: ComponentKind[];
  uninstalled: ComponentKind[];
  hostsStopBegun: string[];
  hostsStopped: string[];
  bootIds: Record<string, string>;
  /** Applications were started, or began to be, on the new nodes: going back loses what they wrote. */
  applicationsReleased: boolean;
  pointOfNoReturn: boolean;

  downtime: DowntimeSpan[];
  budgetReported: boolean;
  /** KiB/s per source host while applications run; 0 = unlimited. */
  preCopyKiBps: number;
  /** When people were last asked to decide at a gate. */
  askedAt?: string;
  freshening: { quietRounds: number; lastRoundSeconds: number; rounds: number; lastRoundAt?: string };
}

/** The state at the very beginning; phases in the order in which this plan runs them. */
export function initialState(
  plan: Plan,
  phases: readonly { name: PhaseName; section: number }[],
  now: string,
): MigrationState {
  return {
    startedAt: now,
    phases: phases.map(({ name, section }) => ({ name, section, state: 'pending' })),
    gates: {
      'open-downtime': initialGate(plan, 'open-downtime'),
      'remove-nodes': initialGate(plan, 'remove-nodes'),
      'close-downtime': initialGate(plan, 'close-downtime'),
    },
    decisions: [],
    transfers: plan.transfers.map((transfer) => ({
      id: transfer.id,
      subject:
        transfer.subject.type === 'component'
          ? { component: transfer.subject.component, ordinal: transfer.subject.ordinal }
          : { service: transfer.subject.service },
      source: `${transfer.source.host}:${transfer.source.path}`,
      destination: `${transfer.destination.host}:${transfer.destination.path}`,
      state: 'pending',
      workflowId: `migrate-${plan.cluster}/${transfer.id}`,
      passes: [],
    })),
    parked: [],
    parkedSoFar: 0,
    undo: [],
    nodes: [],
    applied: [],
    uninstallBegun: [],
    uninstalled: [],
    hostsStopBegun: [],
    hostsStopped: [],
    bootIds: {},
    applicationsReleased: false,
    pointOfNoReturn: false,
    downtime: [],
    budgetReported: false,
    preCopyKiBps: plan.limits.preCopyKiBps,
    freshening: { quietRounds: 0, lastRoundSeconds: 0, rounds: 0 },
  };
}

function initialGate(plan: Plan, name: GateName): GateStatus {
  return { name, state: 'pending', required: plan.gates[name].required, approvals: [] };
}

/** The stored status of one phase. */
export function phaseOf(state: MigrationState, name: PhaseName): PhaseStatus {
  const phase = state.phases.find((candidate) => candidate.name === name);
  if (phase === undefined) {
    throw new TypeError(`phase ${name} is not part of this migration`);
  }
  return phase;
}

/** The state with one more thing that waits for a person. */
export function withParked(state: MigrationState, parked: Omit<Parked, 'id'>): MigrationState {
  const id = state.parkedSoFar + 1;
  return { ...state, parkedSoFar: id, parked: [...state.parked, { ...parked, id }] };
}
