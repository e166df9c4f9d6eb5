import { apply } from '../apply-config.ts';
import type { Migration, Phase } from '../migration.ts';
import { publish } from '../migration.ts';
import { pausePoint } from '../parking.ts';
import { provePlaces } from '../placement.ts';

/** The old nodes leave the cluster. From the moment this is applied there is no way back to them. */
export const removeNodes: Phase = {
  name: 'remove-nodes',
  section: 15,
  run: remove,
  skip: (plan) => (plan.nodes.remove.length > 0 ? undefined : 'the plan removes no nodes'),
};

/** The platform's tool deletes Nodes and leaves their etcd members: with three of six switched off the API is gone for good. */
const afterwards =
  'before an old control-plane machine is switched off, etcdctl member list must name the remaining masters only';

async function remove(migration: Migration): Promise<string> {
  const proof = await apply(migration, 'remove-nodes', 'remove-nodes', async () => {
    await pausePoint(migration);
    passPointOfNoReturn(migration);
  });
  if (migration.plan.components.length > 0) {
    await provePlaces(migration, 'remove-nodes', 'to');
  }
  return `${proof}; ${afterwards}`;
}

/** Firewall and load balancer forget the old nodes before they leave, so the way back closes with the first try, not with the last. */
function passPointOfNoReturn(migration: Migration): void {
  migration.state.pointOfNoReturn = true;
  migration.state.undo = [];
  publish(migration);
}
