import type { ConfigStage, PlanReference } from '../activities/contract.ts';
import type { Plan } from '../plan/plan.ts';
import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { controlOf } from './masters.ts';
import { callActivity } from './migration.ts';
import { act, step } from './parking.ts';

/** The part of the plan that configuration edits need. */
export function planReference(plan: Plan): PlanReference {
  const { cluster, platform, mapping, nodes, containerRegistry } = plan;
  return { cluster, platform, mapping, nodes, containerRegistry };
}

interface Prepared {
  digest: string;
  nodes: string[];
  nodesBefore: string[];
}

/** Edits the configuration for a stage and shows the redacted diff in history; changes nothing in the cluster. */
async function prepare(migration: Migration, stage: ConfigStage, reference: PlanReference): Promise<Prepared> {
  const { plan } = migration;
  const live = await callActivity(migration, 'listNodes', `nodes before ${stage}`);
  const prepared = await callActivity(migration, 'prepareConfig', `edit the configuration: ${stage}`, {
    migration: plan.cluster,
    stage,
    plan: reference,
    components: plan.components,
  });
  return { digest: prepared.digest, nodes: prepared.nodes, nodesBefore: live.map((node) => node.name) };
}

/**
 * Edits the configuration for a stage, applies it, and waits until exactly its nodes are healthy; answers what was proved. Edit and apply are
 * one step: what is done again after a `resume` starts from the configuration as it is then. `onceSure` is called when everything that can be
 * known before an apply is known, and nothing was touched yet. `about`: what of the plan this apply is about, where it is not all of it.
 * `beforeAnother`: what has to be done before every try but the first, once the apply of the last one runs no more.
 */
export async function apply(
  migration: Migration,
  phase: PhaseName,
  stage: ConfigStage,
  {
    onceSure,
    beforeAnother,
    about = () => planReference(migration.plan),
  }: { onceSure?: () => Promise<void>; beforeAnother?: () => Promise<void>; about?: () => PlanReference } = {},
): Promise<string> {
  const { plan } = migration;
  let tries = 0;
  const { proof, nodes } = await step(migration, phase, async () => {
    tries += 1;
    if (tries > 1 && beforeAnother !== undefined) {
      // The last one may have ended here and not there: its unit survives a control host that does not answer and a worker that is lost.
      await callActivity(migration, 'settleApply', 'the last apply has come to its end', {
        migration: plan.cluster,
        control: controlOf(migration),
      });
      await beforeAnother();
    }
    const reference = about();
    const { digest, nodesBefore, ...prepared } = await prepare(migration, stage, reference);
    const control = controlOf(migration);
    const input = { migration: plan.cluster, stage, control, plan: reference, digest, nodesBefore };
    if (onceSure !== undefined) {
      await callActivity(migration, 'checkApply', `whether an apply may start: ${stage}`, input);
      await onceSure();
    }
    if (!migration.state.applied.includes(stage)) {
      migration.state.applied = [...migration.state.applied, stage];
    }
    const applied = await callActivity(migration, 'applyConfig', `proton-cli apply: ${stage}`, input);
    migration.state.nodes = prepared.nodes;
    return {
      proof: `${applied.proof} (${Math.round(applied.seconds)} s, try ${applied.attempt})`,
      nodes: prepared.nodes,
    };
  });
  await act(migration, phase, 'awaitClusterHealthy', `nodes healthy after ${stage}`, {
    nodes,
    namespaces: ['kube-system'],
  });
  return proof;
}
