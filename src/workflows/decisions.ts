import type { CancellationScope } from '@temporalio/workflow';
import { log, setDefaultSignalHandler, setHandler } from '@temporalio/workflow';
import { passOn } from './copies.ts';
import type { DecisionKind } from './gates.ts';
import { applyDecision, readDecision, recordOf, refusal } from './gates.ts';
import type { DecisionRecord } from './messages.ts';
import {
  abortSignal,
  abortUpdate,
  approveSignal,
  approveUpdate,
  pauseSignal,
  pauseUpdate,
  rejectSignal,
  rejectUpdate,
  resumeSignal,
  resumeUpdate,
  statusQuery,
  tuneSignal,
  tuneUpdate,
} from './messages.ts';
import type { Migration } from './migration.ts';
import { adopt, now, publish } from './migration.ts';
import { decisionsKept } from './policies.ts';
import { viewStatus } from './status.ts';

/** Answers everything people send: signals and updates through the same rules, and the query. */
export function receiveDecisions(migration: Migration): void {
  setHandler(statusQuery, () => viewStatus(migration.plan, migration.state, Date.now()));
  setHandler(approveSignal, (input) => void decide(migration, 'approve', input, 'signal'));
  setHandler(rejectSignal, (input) => void decide(migration, 'reject', input, 'signal'));
  setHandler(pauseSignal, (input) => void decide(migration, 'pause', input, 'signal'));
  setHandler(resumeSignal, (input) => void decide(migration, 'resume', input, 'signal'));
  setHandler(abortSignal, (input) => void decide(migration, 'abort', input, 'signal'));
  setHandler(tuneSignal, (input) => void decide(migration, 'tune', input, 'signal'));
  setHandler(approveUpdate, (input) => decide(migration, 'approve', input, 'update'), validating('approve'));
  setHandler(rejectUpdate, (input) => decide(migration, 'reject', input, 'update'), validating('reject'));
  setHandler(pauseUpdate, (input) => decide(migration, 'pause', input, 'update'), validating('pause'));
  setHandler(resumeUpdate, (input) => decide(migration, 'resume', input, 'update'), validating('resume'));
  setHandler(abortUpdate, (input) => decide(migration, 'abort', input, 'update'), validating('abort'));
  setHandler(tuneUpdate, (input) => decide(migration, 'tune', input, 'update'), validating('tune'));
  setDefaultSignalHandler((name) => log.warn('ignored a signal that has no meaning here', { name }));

  function validating(kind: DecisionKind): { validator: (input: unknown) => void } {
    return {
      validator(input) {
        const why = whyNot(migration, kind, input);
        if (why !== undefined) {
          throw new Error(why);
        }
      },
    };
  }
}

/** Cancelling the workflow itself is an abort under the same rules; a refused one leaves the work going on. */
export function receiveCancellation(migration: Migration, root: CancellationScope): void {
  root.cancelRequested.catch(() => {
    decide(migration, 'abort', { by: 'temporal cancel', reason: 'the workflow was cancelled' }, 'cancel');
  });
}

function whyNot(migration: Migration, kind: DecisionKind, input: unknown): string | undefined {
  const read = readDecision(kind, input);
  return 'why' in read ? read.why : refusal(migration.plan, migration.state, read.decision);
}

/** Records a decision and, when it counts, carries it out; answers one sentence. */
function decide(migration: Migration, kind: DecisionKind, input: unknown, via: DecisionRecord['via']): string {
  const { plan } = migration;
  const read = readDecision(kind, input);
  const why = 'why' in read ? read.why : refusal(plan, migration.state, read.decision);
  const at = now();
  const record = recordOf(kind, input, {
    at,
    via,
    planDigest: plan.digest,
    projectedDowntimeSeconds: viewStatus(plan, migration.state, Date.now()).downtime.projectedSeconds,
    ...(why === undefined ? {} : { why }),
  });
  migration.state.decisions = keepDecisions([...migration.state.decisions, record]);
  if ('why' in read || why !== undefined) {
    publish(migration);
    return `does not count: ${why ?? ''}`;
  }
  const verdict = applyDecision(plan, migration.state, read.decision, at);
  adopt(migration, verdict.state);
  publish(migration);
  if (verdict.rollBack) {
    migration.forward.cancel();
  }
  for (const id of migration.copies.keys()) passOn(migration, read.decision.kind, id);
  return verdict.answer;
}

/** Bounded: what counted is kept longest. */
function keepDecisions(decisions: DecisionRecord[]): DecisionRecord[] {
  if (decisions.length <= decisionsKept) {
    return decisions;
  }
  const index = decisions.findIndex((record) => !record.counted);
  return decisions.toSpliced(Math.max(0, index), 1);
}
