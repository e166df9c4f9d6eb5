import { workflowInfo } from '@temporalio/workflow';
import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { act } from './parking.ts';

/* Two migrations of one cluster would edit the same documents and copy over each other, whatever ids they were started with. */

/** Nothing is touched, nor gone on with, while another migration holds the cluster: the phase waits for people. */
export async function holdCluster(migration: Migration, phase: PhaseName): Promise<void> {
  migration.state.holdsCluster = true;
  await act(migration, phase, 'holdCluster', 'no other migration works on this cluster', inputOf(migration));
}

export async function letClusterGo(migration: Migration, phase: PhaseName): Promise<void> {
  if (migration.state.holdsCluster === true) {
    await act(migration, phase, 'letClusterGo', 'others may work on this cluster', inputOf(migration));
  }
}

function inputOf({ plan }: Migration): {
  configNamespace: string;
  holder: Record<'workflowId' | 'namespace' | 'firstRunId', string>;
} {
  const { workflowId, namespace, firstExecutionRunId } = workflowInfo();
  return {
    configNamespace: plan.platform.configNamespace,
    holder: { workflowId, namespace, firstRunId: firstExecutionRunId },
  };
}
