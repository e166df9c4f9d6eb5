import { workflowInfo } from '@temporalio/workflow';
import type { CheckResult } from '../../activities/contract.ts';
import { counted } from '../../plan/counted.ts';
import type { Migration, Phase } from '../migration.ts';
import { callActivity } from '../migration.ts';
import { holdCluster } from '../one-at-a-time.ts';
import { act, needsHuman, step } from '../parking.ts';
import { unprovedChecks } from '../unproved.ts';

/** All checks of the plan against the live world; changes nothing but the mark that keeps other migrations off. */
export const preflight: Phase = { name: 'preflight', section: 4, run: checkWorld };

async function checkWorld(migration: Migration): Promise<string> {
  await holdCluster(migration, 'preflight');
  const checks = await step(migration, 'preflight', async () => {
    const results = await callActivity(migration, 'preflight', 'all checks of the plan', {
      plan: migration.plan,
      workflowId: workflowInfo().workflowId,
    });
    refuseFailed(results);
    return results;
  });
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
    untouched: 'preflight only reads; nothing was changed',
    next: failed.map((check) => check.next ?? `set ${check.name} right, then resume`).join('\n'),
  });
}
