import { apply } from '../apply-config.ts';
import type { Migration, Phase } from '../migration.ts';

/** The new nodes join; nothing else in the configuration changes. */
export const addNodes: Phase = {
  name: 'add-nodes',
  section: 9,
  run: join,
  undo: leave,
  skip: (plan) => (plan.nodes.add.length > 0 ? undefined : 'the plan adds no nodes'),
};

function join(migration: Migration): Promise<string> {
  return apply(migration, 'add-nodes', 'add-nodes');
}

async function leave(migration: Migration): Promise<string> {
  if (!migration.state.applied.includes('add-nodes')) {
    return 'no node had been added';
  }
  return apply(migration, 'add-nodes', 'remove-new-nodes');
}
