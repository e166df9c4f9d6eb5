import { planDigest } from '../plan/digest.ts';
import type { Plan } from '../plan/plan.ts';
import { parsePlanData } from '../plan/validate.ts';
import type { CheckResult, PreflightActivities } from './contract.ts';
import { whileBeating } from './polling.ts';
import { clusterChecks, componentChecks } from './preflight-cluster.ts';
import { hostChecks } from './preflight-hosts.ts';
import { masterChecks } from './preflight-masters.ts';
import { transferChecks } from './preflight-transfers.ts';
import type { Check, PreflightDeps, World } from './preflight-world.ts';
import { openWorld, runCheck } from './preflight-world.ts';
import { ownBootId } from './systemd.ts';

/** All checks of a plan, in the order in which they are reported. */
export function checksOf(plan: Plan): Check[] {
  return [
    { name: 'plan', run: checkPlan },
    ...clusterChecks,
    ...componentChecks(plan.components.map((component) => component.kind)),
    ...hostChecks,
    ...masterChecks(plan),
    ...transferChecks,
  ];
}

/** All checks of a plan against the live world. They only read. */
export function createPreflightActivities(deps: PreflightDeps): PreflightActivities {
  return {
    // An activity runs in the worker: only here the own machine is the worker's.
    preflight: ({ plan, workflowId }) =>
      whileBeating('checking', () =>
        runPreflight({ workerBootId: ownBootId, ...(workflowId !== undefined && { workflowId }), ...deps }, plan),
      ),
  };
}

/** The same outside of an activity; `hear` is told of every check when it begins, and of its result. */
export async function runPreflight(
  deps: PreflightDeps,
  plan: Plan,
  hear: { begins?: (name: string) => void; ends?: (result: CheckResult) => void } = {},
): Promise<CheckResult[]> {
  const world = openWorld(plan, deps);
  const results: CheckResult[] = [];
  for (const check of checksOf(plan)) {
    hear.begins?.(check.name);
    const result = await runCheck(check, world);
    results.push(result);
    hear.ends?.(result);
    // Every further check would only say once more that the API does not answer.
    if (check.name === 'api' && result.state === 'failed' && result.cause?.startsWith('could not be checked') === true)
      break;
  }
  return results;
}

async function checkPlan(world: World): ReturnType<Check['run']> {
  const registryHosts = await world
    .cluster()
    .then(({ config }) => config.registryHosts)
    .catch(() => []);
  const result = parsePlanData(world.plan, { registryHosts });
  return {
    failures: result.ok ? [] : result.errors.map((error) => `${error.path}: ${error.message}`),
    next: 'correct the plan, then: ferry plan --seal FILE',
    proof: planDigest(world.plan),
  };
}
