import { apply, planReference } from '../apply-config.ts';
import { depart, toolCanRemove } from '../departure.ts';
import { isStacked, mastersNow, proveMembers, setBalancers } from '../masters.ts';
import type { Migration, Phase } from '../migration.ts';
import { callActivity, hostNamed } from '../migration.ts';
import { act } from '../parking.ts';
import { retire } from '../retirement.ts';

/** The new nodes join; nothing else in the configuration changes. */
export const addNodes: Phase = {
  name: 'add-nodes',
  section: 9,
  run: join,
  undo: leave,
  skip: (plan) => (plan.nodes.add.length > 0 ? undefined : 'the plan adds no nodes'),
};

async function join(migration: Migration): Promise<string> {
  if (!isStacked(migration.plan)) {
    return apply(migration, 'add-nodes', 'add-nodes');
  }
  await proveMembers(migration, 'add-nodes', 'before the first joins');
  const masters = migration.plan.nodes.add.filter((node) => node.controlPlane);
  for (const { name } of masters) {
    await joinMaster(migration, name);
  }
  return masters.length === migration.plan.nodes.add.length
    ? `${masters.length} masters joined, each by itself: ${mastersNow(migration).join(', ')}`
    : apply(migration, 'add-nodes', 'add-nodes');
}

/** One new master by an apply of its own: the next one joins when this one is a sound member of etcd and its API server is ready. */
async function joinMaster(migration: Migration, name: string): Promise<void> {
  const { plan, state } = migration;
  state.joined = [...new Set([...(state.joined ?? []), name])];
  const reference = planReference(plan);
  const add = plan.nodes.add.filter((node) => node.controlPlane && state.joined?.includes(node.name));
  await apply(migration, 'add-nodes', 'add-nodes', {
    about: () => ({ ...reference, nodes: { ...reference.nodes, add } }),
    beforeAnother: () => clearFailedJoin(migration, name),
  });
  await act(migration, 'add-nodes', 'matchTaints', `${name} takes the pods that an old master takes`, {
    node: name,
    like: plan.platform.controlHost,
  });
  await proveMembers(migration, 'add-nodes', `with ${name}`);
}

/**
 * Leftovers of a join that failed half-way make every further one fail in its preflight. A machine that did join is left alone: its Node gets
 * the mark of a master after its member got its vote. One whose member runs without that leaves etcd first.
 */
async function clearFailedJoin(migration: Migration, name: string): Promise<void> {
  const { plan } = migration;
  const before = mastersNow(migration)
    .filter((master) => master !== name)
    .map((master) => hostNamed(plan, master));
  const { members } = await callActivity(migration, 'listMembers', `whether ${name} is a member of etcd`, {
    via: before,
  });
  // One that was added and has never started has no name yet: the next join takes it over.
  const member = members.find((candidate) => candidate.name === name);
  if (member !== undefined) {
    const live = await callActivity(migration, 'listNodes', `whether ${name} is marked as a master`);
    if (!member.learner && live.some((node) => node.name === name && node.controlPlane)) {
      return;
    }
    await setBalancers(migration, { without: [name], on: (other) => other.name !== name });
    await callActivity(migration, 'leaveEtcd', `${name} leaves etcd: its join failed`, {
      migration: plan.cluster,
      master: hostNamed(plan, name),
      remaining: before,
      leavingLater: plan.nodes.remove,
    });
  }
  await callActivity(migration, 'resetNode', `${name} is cleared of a join that failed`, {
    migration: plan.cluster,
    host: hostNamed(plan, name),
  });
  await callActivity(migration, 'deleteNode', `delete Node ${name}, if its kubelet made one`, {
    node: name,
    configNamespace: plan.platform.configNamespace,
  });
}

async function leave(migration: Migration): Promise<string> {
  const { plan, state } = migration;
  if (!state.applied.includes('add-nodes')) {
    return 'no node had been added';
  }
  const live = await act(migration, 'add-nodes', 'listNodes', 'which new nodes have joined');
  const names = live.map((node) => node.name);
  const leaving = plan.nodes.add
    .map((node) => node.name)
    .filter((name) => names.includes(name) || state.joined?.includes(name))
    .toReversed();
  const byTool = !isStacked(plan) && toolCanRemove(leaving, live);
  if (!byTool) {
    await depart(migration, 'add-nodes', leaving);
  }
  const applied = await apply(migration, 'add-nodes', 'remove-new-nodes');
  // A lost machine may have come back meanwhile: then it is made clean like the others.
  const warnings = await retire(migration, 'add-nodes', [...(byTool ? leaving : []), ...(state.lost ?? [])]);
  return [applied, ...warnings].join('; ');
}
