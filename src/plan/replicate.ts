import { z } from 'zod';
import { absolutePath, bringRsyncSchema, hostSchema, limitScheduleSchema, transferSchema } from './plan.ts';

/** A last delta of so many seconds is short enough: more passes before it would not be worth their load. */
export const defaultTargetSeconds = 60;

/**
 * Input of the workflow `replicateDirectory`: moves one directory. `live` is one pre-copy round of a source in use (passes
 * until it converges or `maxPasses`); `final` is the last delta of a quiet source, then verification.
 */
export const replicateInputSchema = z.strictObject({
  /** Names units, locks and markers together with the transfer's id: `<cluster>` of the migration, or any label for a copy that stands alone. */
  migration: z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/),
  /** As in `transfers` of the plan: what moves, from where to where. */
  transfer: transferSchema,
  /** The machine it comes from, as in `hosts` of the plan. */
  source: hostSchema,
  /** The machine it goes to. */
  destination: hostSchema,
  /** `live`: the source is in use, passes until the last delta is small. `final`: nothing writes any more, one pass and the proof. */
  mode: z.enum(['live', 'final']),
  /** As in the plan. */
  verify: z.enum(['metadata', 'sampled', 'full']).default('full'),
  /** KiB/s, 0 = unlimited. Ignored by `final`. */
  limitKiBps: z.int().min(0).default(0),
  /** Other limits for hours of the day, UTC; the first that holds counts. */
  schedule: limitScheduleSchema.default([]),
  /** Passes of a live copy at most. */
  maxPasses: z.int().min(1).default(10),
  /** The final delta must be projected to fit in this many seconds before a live round calls itself fresh. */
  targetFinalSeconds: z.number().min(1).default(defaultTargetSeconds),
  /** `all` compares the content of every file in every pass; `changed` of those that may have changed since the last pass. */
  content: z.enum(['changed', 'all']).default('changed'),
  /** Keep passing at an adaptive cadence after convergence until signalled to stop; for copies that stand alone. */
  hold: z.boolean().default(false),
  /** Shortest pause between passes while holding. */
  holdSeconds: z.int().min(1).default(60),
  /** Destinations must lie below one of these; the system's own directories are never allowed. Empty: only the transfer's own path. */
  allowedRoots: z.array(absolutePath).default([]),
  /** A destination that was proved once and has been written since is overwritten; without this it is refused. */
  discardChanges: z.boolean().default(false),
  /** Present: a machine without rsync is lent the worker's for this transfer. Absent: the copy goes through tar. */
  bringRsync: bringRsyncSchema.optional(),
  /** Seconds without any progress on either machine after which an attempt is ended and tried again. */
  stallSeconds: z.int().min(10).default(180),
});
export type ReplicateInput = z.infer<typeof replicateInputSchema>;
export type ReplicateRequest = z.input<typeof replicateInputSchema>;
