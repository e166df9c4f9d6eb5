import { workflowInfo } from '@temporalio/workflow';
import type { CheckResult } from '../../activities/contract.ts';
import { counted } from '../../plan/counted.ts';
import type { PhaseName } from '../messages.ts';
import type { Migration, Phase } from '../migration.ts';
import { callActivity, now } from '../migration.ts';
import { holdCluster } from '../one-at-a-time.ts';
import { act, needsHuman, step } from '../parking.ts';
import { unprovedChecks } from '../unproved.ts';

/** All checks of the plan against the live world; changes nothing but the mark that keeps other migrations off. */
export const preflight: Phase = { name: 'preflight', section: 4, run: checkWorld };

/** People may think for weeks at the first gate: what was good before it is looked at again when this much time has passed. */
const goodForSeconds = 3600;

/**
 * All checks once more before anything is stopped, unless they are fresh. What fails now parks while applications still run, where an
 * abort costs nobody anything.
 */
export async function checkAgain(migration: Migration, phase: PhaseName): Promise<string | undefined> {
  const { checkedAt } = migration.state;
  if (checkedAt !== undefined && Date.now() - Date.parse(checkedAt) < goodForSeconds * 1000) return undefined;
  const checks = await goodChecks(migration, phase, 'all checks of the plan once more');
  return `${counted(checks.length, 'check')} repeated`;
}

async function goodChecks(migration: Migration, phase: PhaseName, summary: string): Promise<CheckResult[]> {
  const checks = await step(migration, phase, async () => {
    const results = await callActivity(migration, 'preflight', summary, {
      plan: migration.plan,
      workflowId: workflowInfo().workflowId,
    });
    refuseFailed(results);
    return results;
  });
  migration.state.checkedAt = now();
  return checks;
}

async function checkWorld(migration: Migration): Promise<string> {
  await holdCluster(migration, 'preflight');
  const checks = await goodChecks(migration, 'preflight', 'all checks of the plan');
  migration.state.unproved = unprovedChecks(checks);
  const nodes = await act(migration, 'preflight', 'listNodes', 'nodes as they are');
  migration.state.nodes = nodes.map((node) => node.name);
  const warnings = checks.filter((check) => check.state === 'warning');
  const warned = warnings.map((check) => `; warning: ${check.name}: ${check.cause ?? ''}`).join('');
  return `${counted(checks.length, 'check')}, ${checks.length - warnings.length} good${warned}`;
}

function refuseFailed(checks: readonly CheckResult[]): void {
  const failed = checks.filter((check) => check.state === 'failed');
  if (failed.length === 0) {
    return;
  }
  throw needsHuman({
    cause: failed.map((check) => `${check.name}: ${check.cause ?? 'failed'}`).join('\n'),
    untouched: 'the checks only read; nothing was stopped or changed by them',
    next: failed.map((check) => check.next ?? `set ${check.name} right, then resume`).join('\n'),
  });
}
