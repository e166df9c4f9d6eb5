import { ApplicationFailure, CancellationScope, condition, TemporalFailure, workflowInfo } from '@temporalio/workflow';
import type { Plan, PlanInput } from '../plan/plan.ts';
import { parsePlanData } from '../plan/validate.ts';
import { planReference } from './apply-config.ts';
import { checkpoint } from './checkpoint.ts';
import { watchBudget } from './clock.ts';
import { receiveCancellation, receiveDecisions } from './decisions.ts';
import type { MigrationResult, PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { notifyLast, now, publish } from './migration.ts';
import { letClusterGo } from './one-at-a-time.ts';
import { act } from './parking.ts';
import type { GateStage, Stage } from './passing.ts';
import { passStage, phasesOf } from './passing.ts';
import { addNodes } from './phases/add-nodes.ts';
import { backup } from './phases/backup.ts';
import { editSecrets } from './phases/edit-secrets.ts';
import { finalCopy } from './phases/final-copy.ts';
import { startHostServices, stopHostServices } from './phases/host-services.ts';
import { preflight } from './phases/preflight.ts';
import { prewarm } from './phases/prewarm.ts';
import { reinstall } from './phases/reinstall.ts';
import { removeNodes } from './phases/remove-nodes.ts';
import { keepFresh, replicate } from './phases/replicate.ts';
import { startApps } from './phases/start-apps.ts';
import { stopApps } from './phases/stop-apps.ts';
import { uninstall } from './phases/uninstall.ts';
import { checkResult, verify } from './phases/verify.ts';
import { rollBack } from './rollback.ts';
import type { MigrationState } from './state.ts';
import { initialState } from './state.ts';
import { viewStatus } from './status.ts';

const openDowntime: GateStage = {
  gate: 'open-downtime',
  phase: 'replicate',
  meanwhile: keepFresh,
  acceptsUnproved: true,
};
const acceptRemoval: GateStage = {
  gate: 'remove-nodes',
  phase: 'remove-nodes',
  skip: (plan) => removeNodes.skip?.(plan),
};
const closeDowntime: GateStage = {
  gate: 'close-downtime',
  phase: 'start-apps',
  check: checkResult,
  acceptsUnproved: true,
};

/** The whole migration, section by section of the runbook. */
function stagesOf(plan: Plan): Stage[] {
  const removesEarly = plan.gates.removeNodesAfter === 'reinstall';
  // What the components hold is compared before anybody gives up the way back.
  const removal: Stage[] = [removesEarly ? { ...acceptRemoval, check: checkResult } : acceptRemoval, removeNodes];
  return [
    preflight,
    prewarm,
    backup,
    replicate,
    openDowntime,
    stopApps,
    addNodes,
    editSecrets,
    { together: [uninstall, stopHostServices, finalCopy] },
    startHostServices,
    reinstall,
    ...(removesEarly ? removal : []),
    closeDowntime,
    startApps,
    verify,
    ...(removesEarly ? [] : removal),
  ];
}

/**
 * Moves a platform to new machines. One argument: the plan. `carried` is only ever given by the workflow itself, when a long wait is
 * carried on in a fresh history. Fails for an invalid plan (type `InvalidPlan`, every problem listed) or a start that would cut it off
 * (`InvalidStart`), with nothing touched; everything else parks and waits for people. Ends migrated or rolled back.
 */
export async function migrateNodes(input: PlanInput, carried?: MigrationState): Promise<MigrationResult> {
  refuseForeignStart(carried);
  // What was carried over was checked when it first came.
  const plan = carried === undefined ? readPlan(input) : (input as Plan);
  const stages = stagesOf(plan);
  const phases = stages.flatMap(phasesOf);
  const root = CancellationScope.current();
  return CancellationScope.nonCancellable(async () => {
    const migration = begin(plan, carried ?? initialState(plan, phases, now()));
    receiveDecisions(migration);
    receiveCancellation(migration, root);
    await goForward(migration, stages);
    const isUndone = migration.state.abort !== undefined;
    if (isUndone) {
      await rollBack(migration, phases);
    }
    return finish(migration, isUndone ? 'rolled-back' : 'migrated');
  });
}

/** Some servers give every workflow one of years; a shorter one was somebody's wish. Milliseconds. */
const leastTimeout = 365 * 24 * 3600 * 1000;

/** Whoever starts a workflow may give it more than its plan: what would end or mislead the migration is refused while nothing is touched. */
function refuseForeignStart(carried: MigrationState | undefined): void {
  const { continuedFromExecutionRunId, executionTimeoutMs = Infinity, runTimeoutMs = Infinity } = workflowInfo();
  const reasons = [
    ...(carried !== undefined && continuedFromExecutionRunId === undefined
      ? ['it was given a second argument, which only the workflow itself may hand to its next history']
      : []),
    ...(Math.min(executionTimeoutMs || Infinity, runTimeoutMs || Infinity) < leastTimeout
      ? ['it was given a timeout, at which the server would end it in the middle of its work; nothing would be undone']
      : []),
  ];
  if (reasons.length > 0) {
    throw ApplicationFailure.nonRetryable(
      `this migration must not start, nothing was touched: ${reasons.join('; ')}. Next: start it with the plan as its one argument, without --execution-timeout and --run-timeout`,
      'InvalidStart',
    );
  }
}

/** The plan as it was sent, checked by every rule: types, rules across fields, digest. */
function readPlan(input: unknown): Plan {
  const result = parsePlanData(input);
  if (result.ok) {
    return result.plan;
  }
  const list = result.errors.map(({ path, message }) => `${path === '' ? 'plan' : path}: ${message}`).join('\n');
  throw ApplicationFailure.nonRetryable(
    `the plan is not valid, nothing was touched:\n${list}`,
    'InvalidPlan',
    result.errors,
  );
}

function begin(plan: Plan, state: MigrationState): Migration {
  const migration: Migration = {
    plan,
    state,
    shield: CancellationScope.current(),
    forward: new CancellationScope({ cancellable: true }),
    messages: new CancellationScope({ cancellable: true }),
    copies: new Map(),
    background: 0,
    published: '',
  };
  publish(migration);
  watchBudget(migration);
  return migration;
}

/** All stages in order. Comes back early when an abort cancels it; by then whatever was at work has come to its end. */
async function goForward(migration: Migration, stages: readonly Stage[]): Promise<void> {
  try {
    await migration.forward.run(async () => {
      for (const stage of stages) {
        await checkpoint(migration);
        await passStage(migration, stage);
      }
      await clearBreadcrumbs(migration, 'verify');
    });
  } catch (error) {
    if (migration.state.abort === undefined || !(error instanceof TemporalFailure)) {
      throw error;
    }
  }
}

async function clearBreadcrumbs(migration: Migration, phase: PhaseName): Promise<void> {
  const { plan } = migration;
  await act(migration, phase, 'clearBreadcrumbs', 'take the marks of the migration out of the cluster', {
    migration: plan.cluster,
    // Marks are made where applications are stopped and nowhere else; the worker has no rights to look for them elsewhere.
    namespaces: plan.applications.namespaces,
  });
}

async function finish(migration: Migration, outcome: MigrationResult['outcome']): Promise<MigrationResult> {
  // The outcome is settled here: an abort that came now would count and change nothing.
  migration.state.finishing = true;
  if (migration.state.applied.length > 0) {
    const { plan } = migration;
    const name = outcome === 'migrated' ? 'verify' : 'add-nodes';
    await act(migration, name, 'dropPrepared', 'take the prepared configurations out of the cluster', {
      migration: plan.cluster,
      plan: planReference(plan),
    });
  }
  if (outcome === 'rolled-back' && migration.state.applications !== undefined) {
    await clearBreadcrumbs(migration, 'stop-apps');
  }
  await letClusterGo(migration, outcome === 'migrated' ? 'verify' : 'preflight');
  migration.state.outcome = outcome;
  publish(migration);
  const text =
    outcome === 'migrated'
      ? `${migration.plan.cluster} runs on its new machines.`
      : `${migration.plan.cluster} is back on its old machines.`;
  await notifyLast(migration, outcome === 'migrated' ? 'finished' : 'rolled-back', text);
  await condition(() => migration.background === 0);
  return { outcome, status: viewStatus(migration.plan, migration.state, Date.now()) };
}
