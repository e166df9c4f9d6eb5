import type { ConfigStage } from '../activities/contract.ts';
import type { Plan } from '../plan/plan.ts';
import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { hostNamed } from './migration.ts';
import { act } from './parking.ts';

/** The part of the plan that configuration edits need. */
export function planReference(
  plan: Plan,
): Pick<Plan, 'cluster' | 'platform' | 'mapping' | 'nodes' | 'containerRegistry'> {
  const { cluster, platform, mapping, nodes, containerRegistry } = plan;
  return { cluster, platform, mapping, nodes, containerRegistry };
}

export interface Prepared {
  digest: string;
  nodes: string[];
  nodesBefore: string[];
}

/** Edits the configuration for a stage and shows the redacted diff in history; changes nothing in the cluster. */
export async function prepare(migration: Migration, phase: PhaseName, stage: ConfigStage): Promise<Prepared> {
  const { plan } = migration;
  const live = await act(migration, phase, 'listNodes', `nodes before ${stage}`);
  const prepared = await act(migration, phase, 'prepareConfig', `edit the configuration: ${stage}`, {
    migration: plan.cluster,
    stage,
    plan: planReference(plan),
    components: plan.components,
  });
  return { digest: prepared.digest, nodes: prepared.nodes, nodesBefore: live.map((node) => node.name) };
}

/** Applies a prepared configuration and waits until exactly its nodes are healthy; answers what was proved. */
export async function apply(
  migration: Migration,
  phase: PhaseName,
  stage: ConfigStage,
  prepared: Prepared,
): Promise<string> {
  const { plan } = migration;
  if (!migration.state.applied.includes(stage)) {
    migration.state.applied = [...migration.state.applied, stage];
  }
  const applied = await act(migration, phase, 'applyConfig', `proton-cli apply: ${stage}`, {
    migration: plan.cluster,
    stage,
    control: hostNamed(plan, plan.platform.controlHost),
    plan: planReference(plan),
    digest: prepared.digest,
    nodesBefore: prepared.nodesBefore,
  });
  migration.state.nodes = prepared.nodes;
  await act(migration, phase, 'awaitClusterHealthy', `nodes healthy after ${stage}`, {
    nodes: prepared.nodes,
    namespaces: ['kube-system'],
  });
  return `${applied.proof} (${Math.round(applied.seconds)} s, try ${applied.attempt})`;
}
