import type { Plan } from '../plan/plan.ts';
import { defaultTargetSeconds } from '../plan/replicate.ts';
import { decide, figuresOf } from './convergence.ts';
import type { PassSummary, TransferStatus } from './messages.ts';
import { clip, passesKept } from './policies.ts';

/** What a migration reads of the result of `replicateDirectory`. */
export interface CopyOutcome {
  passes: PassSummary[];
  isWhole?: true;
  /** What the wire carried when it was tried; absent where it was not. */
  linkBytesPerSecond?: number;
  digest?: string;
}

/** What is known of a transfer after one more round. Pure: a report goes through the rounds again. */
export function afterRound(
  plan: Plan,
  before: TransferStatus,
  mode: 'live' | 'final',
  outcome: CopyOutcome,
): TransferStatus {
  const isWhole = outcome.isWhole === true;
  const passes = [...before.passes, ...outcome.passes].slice(-passesKept);
  const linkBytesPerSecond = outcome.linkBytesPerSecond ?? before.linkBytesPerSecond;
  return {
    ...before,
    passes,
    ...(linkBytesPerSecond === undefined ? {} : { linkBytesPerSecond }),
    ...(isWhole || before.isWhole !== undefined ? { isWhole } : {}),
    state: mode === 'final' ? 'verified' : 'fresh',
    ...(mode === 'final' ? {} : projected(plan, passes, isWhole, linkBytesPerSecond)),
    ...(outcome.digest === undefined ? {} : { digest: outcome.digest }),
  };
}

/** From all passes that are known: a round that keeps fresh has a single one, which says nothing of how fast things change. */
function projected(
  plan: Plan,
  passes: readonly PassSummary[],
  isWhole: boolean,
  linkBytesPerSecond: number | undefined,
): Pick<TransferStatus, 'projectedFinalSeconds' | 'projectedErrorSeconds' | 'advice'> {
  const target = { finalSeconds: defaultTargetSeconds, maxPasses: plan.limits.maxPasses };
  const { next, why, projection } = decide(figuresOf(passes, { linkBytesPerSecond, isWhole }), target);
  return {
    projectedFinalSeconds: projection.finalSeconds,
    projectedErrorSeconds: projection.errorSeconds,
    advice: next === 'not-converging' ? clip(why, 400) : undefined,
  };
}
