import { apply, prepare } from '../apply-config.ts';
import type { Migration, Phase } from '../migration.ts';

/** The new nodes join; nothing else in the configuration changes. */
export const addNodes: Phase = {
  name: 'add-nodes',
  section: 9,
  run: join,
  undo: leave,
  skip: (plan) => (plan.nodes.add.length > 0 ? undefined : 'the plan adds no nodes'),
};

async function join(migration: Migration): Promise<string> {
  const prepared = await prepare(migration, 'add-nodes', 'add-nodes');
  return apply(migration, 'add-nodes', 'add-nodes', prepared);
}

async function leave(migration: Migration): Promise<string> {
  if (!migration.state.applied.includes('add-nodes')) {
    return 'no node had been added';
  }
  const prepared = await prepare(migration, 'add-nodes', 'remove-new-nodes');
  return apply(migration, 'add-nodes', 'remove-new-nodes', prepared);
}
