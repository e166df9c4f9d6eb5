import { z } from 'zod';
import { gateNames } from '../plan/plan.ts';
import type { DowntimeSpan } from '../workflows/downtime.ts';
import type { MigrationStatus } from '../workflows/messages.ts';
import type { MigrationState } from '../workflows/state.ts';
import type { ReportEvent, RunHistory } from './report-events.ts';
import type { Outcome } from './report-model.ts';

/* What the workflow itself said: its result, what a fresh history was handed, its search attributes. Pure. */

export type Ended = Extract<ReportEvent, { kind: 'ended' }>;

export function endOf(events: readonly ReportEvent[]): Ended | undefined {
  return events.findLast((event) => event.kind === 'ended');
}

const resultSchema = z.looseObject({ outcome: z.enum(['migrated', 'rolled-back']), status: z.looseObject({}) });

export function outcomeOf(ended: Ended | undefined): Outcome {
  if (ended === undefined) return 'running';
  if (ended.how !== 'completed') return ended.how;
  const result = resultSchema.safeParse(ended.result);
  return result.success ? result.data.outcome : 'failed';
}

export function whyOf(ended: Ended | undefined): string | undefined {
  if (ended === undefined || ended.how === 'completed') return undefined;
  const by = ended.identity === undefined || ended.identity === '' ? '' : ` (by ${ended.identity})`;
  return `${ended.why === '' ? 'no reason was given' : ended.why}${by}`;
}

/** The workflow's own last word; its shape is that of the messages, which stay compatible. */
export function statusOf(ended: Ended | undefined): MigrationStatus | undefined {
  if (ended?.how !== 'completed') return undefined;
  const result = resultSchema.safeParse(ended.result);
  return result.success ? (result.data.status as unknown as MigrationStatus) : undefined;
}

export type Known = Pick<MigrationStatus, 'phases' | 'gates' | 'decisions' | 'transfers'> & {
  downtime?: MigrationStatus['downtime'];
  /** Stretches without applications until the last run began, where it was handed them. */
  spans?: DowntimeSpan[];
};

const stateSchema = z.looseObject({
  phases: z.array(z.unknown()),
  gates: z.looseObject({}),
  decisions: z.array(z.unknown()),
});

/** What the last of several runs was handed; what happened since is added from its events. */
export function carriedStatus(runs: readonly RunHistory[]): Known | undefined {
  const first = runs.at(-1)?.events.find((event) => event.kind === 'started');
  const parsed = stateSchema.safeParse(first?.input[1]);
  if (!parsed.success) return undefined;
  const state = parsed.data as unknown as MigrationState;
  return {
    phases: state.phases,
    gates: gateNames.map((name) => state.gates[name]),
    decisions: state.decisions,
    transfers: state.transfers,
    spans: state.downtime,
  };
}

export interface AttributeChange {
  at: string;
  /** Null: no gate awaits any more. */
  gate?: string | null;
  downtimeStart?: string;
}

export function attributeChanges(events: readonly ReportEvent[]): AttributeChange[] {
  return events.flatMap((event) => {
    if (event.kind !== 'attributes') return [];
    const { FerryAwaitingGate: gate, FerryDowntimeStart: downtimeStart } = event.attributes;
    return [
      {
        at: event.at,
        gate: typeof gate === 'string' ? gate : null,
        ...(typeof downtimeStart === 'string' ? { downtimeStart } : {}),
      },
    ];
  });
}
