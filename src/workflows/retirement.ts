import type { PhaseName } from './messages.ts';
import type { Migration } from './migration.ts';
import { hostNamed } from './migration.ts';
import { act } from './parking.ts';

/*
 * What the platform's tool leaves undone when it deletes Nodes: their kubelets stay enabled, and the next start of such a machine makes it a
 * node again that takes pods. What it prepared for a join stays as well, and a later join fails at it.
 */

/**
 * Machines whose Nodes the tool has deleted are none any more; answers one warning for each that did not answer. Not a failure: a machine
 * that is switched off cannot be waited for.
 */
export async function retire(migration: Migration, phase: PhaseName, names: readonly string[]): Promise<string[]> {
  const { plan } = migration;
  const warnings: string[] = [];
  for (const name of names) {
    const host = hostNamed(plan, name);
    const { reached } = await act(migration, phase, 'resetNode', `${name} is no node any more`, {
      migration: plan.cluster,
      host,
    });
    if (reached) {
      // It may have come back in between.
      await act(migration, phase, 'deleteNode', `Node ${name} stays away`, {
        node: name,
        configNamespace: plan.platform.configNamespace,
      });
    } else {
      warnings.push(
        `${name} did not answer, and becomes a node again when it starts: then systemctl disable --now kubelet on it, and kubectl delete node ${name}`,
      );
    }
  }
  return warnings;
}
