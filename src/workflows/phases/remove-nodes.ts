import { CancellationScope, CancelledFailure } from '@temporalio/workflow';
import { apply } from '../apply-config.ts';
import { depart } from '../departure.ts';
import { controlOf, isStacked, mastersNow, prepareControl, proveMembers } from '../masters.ts';
import type { Migration, Phase } from '../migration.ts';
import { hostNamed, publish } from '../migration.ts';
import { act, pausePoint } from '../parking.ts';
import { provePlaces } from '../placement.ts';
import { retire } from '../retirement.ts';
import { checkRunning } from './verify.ts';

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
  const proof = isStacked(migration.plan) ? await removeMasters(migration) : await removeByTool(migration);
  if (migration.plan.gates.removeNodesAfter === 'start-apps') {
    // Applications run since before; what ran on the old nodes has to run elsewhere now.
    return `${proof}; ${await checkRunning(migration, 'remove-nodes')}`;
  }
  if (migration.plan.components.length > 0) {
    await provePlaces(migration, 'remove-nodes', 'to');
  }
  return proof;
}

async function removeByTool(migration: Migration): Promise<string> {
  const onceSure = async (): Promise<void> => {
    await pausePoint(migration);
    passPointOfNoReturn(migration);
  };
  const applied = await apply(migration, 'remove-nodes', 'remove-nodes', { onceSure });
  const warnings = await retire(migration, 'remove-nodes', migration.plan.nodes.remove);
  return [applied, ...warnings, afterwards].join('; ');
}

/** One node at a time leaves first, etcd and all; the apply at the end only makes the configuration agree and finds no node to delete. */
async function removeMasters(migration: Migration): Promise<string> {
  const { plan } = migration;
  if (!migration.state.pointOfNoReturn) {
    await proveMembers(migration, 'remove-nodes', 'before the first leaves', plan.nodes.remove);
    const next = await prepareControl(migration, 'remove-nodes');
    await pausePoint(migration);
    passPointOfNoReturn(migration);
    // Not before: the way back goes through the old one.
    if (next !== undefined) {
      migration.state.controlHost = next;
    }
  }
  const left = await depart(migration, 'remove-nodes', plan.nodes.remove);
  const applied = await apply(migration, 'remove-nodes', 'remove-nodes');
  const members = await proveMembers(migration, 'remove-nodes', 'at the end');
  await letNodesJoin(migration);
  const leftovers = await act(migration, 'remove-nodes', 'listLeftovers', 'what still names a removed node', {
    hosts: plan.hosts.filter((host) => migration.state.nodes.includes(host.name)),
    removed: plan.nodes.remove.map((name) => ({ name, address: hostNamed(plan, name).address })),
  });
  const named = leftovers.filter(({ lines }) => lines.length > 0).map(nameLines);
  return [
    ...left,
    applied,
    ...(members === undefined ? [] : [members]),
    `masters: ${mastersNow(migration).join(', ')}`,
    ...(named.length === 0 ? [] : [`lines of /etc/hosts still name removed nodes on ${named.join(', on ')}`]),
  ].join('; ');
}

/** Of one machine; a hosts file may have thousands of them. */
const mostLines = 5;

function nameLines({ host, lines }: { host: string; lines: readonly string[] }): string {
  const shown = lines.slice(0, mostLines).map((line) => line.replaceAll(/\s+/g, ' ').slice(0, 100));
  const more = lines.length - shown.length;
  return `${host} (${[...shown, ...(more > 0 ? [`${more} more`] : [])].join(' | ')})`;
}

/** Keys are made on the first of those that are masters now, which need not be the control host: without its file the next node cannot join. */
async function letNodesJoin(migration: Migration): Promise<void> {
  const [first] = mastersNow(migration);
  if (first !== undefined) {
    await act(migration, 'remove-nodes', 'giveJoinFile', `nodes can join through ${first}`, {
      control: controlOf(migration),
      to: hostNamed(migration.plan, first),
    });
  }
}

/**
 * Firewall and load balancer forget the old nodes before they leave, so the way back closes with the first try, not with the last. Never
 * once an abort was accepted: without the list of undos it would undo nothing and say that it had.
 */
function passPointOfNoReturn(migration: Migration): void {
  if (migration.state.abort !== undefined || CancellationScope.current().consideredCancelled) {
    throw new CancelledFailure('an abort was accepted: no node is removed');
  }
  migration.state.pointOfNoReturn = true;
  migration.state.undo = [];
  publish(migration);
}
